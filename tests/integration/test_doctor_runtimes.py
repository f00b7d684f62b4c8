"""`doctor` before docker and CRI-O: whether they are told of a hub on plain http under a name."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shimcore.cluster.documents import ClusterPart, Document, Kind, keep
from shimcore.config.model import KubernetesSource, Registry
from shimcore.doctor.finding import Finding, Result
from shimcore.doctor.registries import LONGEST_S
from shimcore.registry.client import RegistryClient
from shimcore.runtime.containerd.route import Wanted
from shimcore.systemd import record
from shimcore.systemd.changes import Change
from shimcore.systemd.entries import write
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import crio, docker
from shimcore.systemd.runtimes.node import Kind as Runtime
from shimcore.systemd.runtimes.wiring import containerd_on, wire_runtime
from tests.support.doctor import CONTAINERD, KUBELET, world
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime

WIRE = "image-cri-shim install-service --wire-runtime --now"
WAY = "the runtime's way to sealos.hub:5000"
DOCKER_SOCKET = "/run/cri-dockerd.sock"
K3S_SOCKET = "/run/k3s/containerd/containerd.sock"
DOCKER_FILE = "/etc/docker/daemon.json"
CRIO_FILE = "/etc/containers/registries.conf.d/x.conf"
INSECURE = '[[registry]]\nlocation = "sealos.hub:5000"\ninsecure = '


async def way(place: Path, runtime: str, path: str, text: str) -> Finding:
    """What doctor says of the runtime's way; the file is written unless its text is empty."""
    async with world(place) as node:
        node.name(runtime, "1.30.0")
        node.keys["address"] = "http://sealos.hub:5000"
        if text:
            node.put(path, text)
        found = await node.examined()
    (one,) = [each for each in found if each.check == WAY]
    return one


@pytest.mark.parametrize(
    ("runtime", "path", "text", "mend"),
    [
        ("docker", DOCKER_FILE, "", f"/shim.yaml  # it writes {DOCKER_FILE}"),
        ("docker", DOCKER_FILE, '{"insecure-registries": ["b"]}', "--wire-runtime"),
        ("cri-o", CRIO_FILE, "", "--wire-runtime"),
        ("cri-o", CRIO_FILE, f"{INSECURE}false\n", "then systemctl reload crio\ninsecure = true"),
    ],
)
async def test_a_runtime_that_is_not_told_fails(
    tmp_path: Path, runtime: str, path: str, text: str, mend: str
) -> None:
    """Its pulls would fail, which is no mere warning."""
    found = await way(tmp_path, runtime, path, text)
    assert found.result is Result.FAIL
    assert mend in found.mend


@pytest.mark.parametrize(
    ("runtime", "path", "text"),
    [
        ("docker", DOCKER_FILE, '{"insecure-registries": ["sealos.hub:5000"]}'),
        ("cri-o", CRIO_FILE, f"{INSECURE}true\n"),
    ],
)
async def test_a_runtime_that_is_told_passes(
    tmp_path: Path, runtime: str, path: str, text: str
) -> None:
    """The file that it needs is seen, whoever wrote it."""
    assert (await way(tmp_path, runtime, path, text)).result is Result.PASS


@pytest.mark.parametrize(("runtime", "wire"), [("docker", docker.wire), ("cri-o", crio.wire)])
async def test_what_an_installation_wrote_is_known(
    tmp_path: Path, runtime: str, wire: Callable[..., list[Change]]
) -> None:
    """The files of --wire-runtime, which belong to the installation, tell of both hubs."""
    hubs = ["sealos.hub:5000", "b.hub:5000"]
    told = [Wanted("http", host, address=f"http://{host}") for host in hubs]
    async with world(tmp_path) as node:
        node.name(runtime, "1.30.0")
        node.keys["address"] = "http://sealos.hub:5000"
        node.keys["registries"] = [{"address": "http://b.hub:5000"}]
        installation = record.Record()
        for change in wire(node.root, told, ()):
            installation.add(node.root, change)
            write(node.root, change.path, change.entry)
        installation.save(node.root)
        found = await node.examined()
    ways = {each.check: each.result for each in found if "'s way to " in each.check}
    assert ways == {f"the runtime's way to {host}": Result.PASS for host in hubs}


async def test_a_configuration_of_containerd_that_is_not_k0s_own(tmp_path: Path) -> None:
    """It is looked into, and written to: the folder of k0s does not count beside it."""
    folder, path = tmp_path / "run/k0s", "/etc/k0s/containerd.toml"
    folder.mkdir(parents=True)
    check = WAY.replace("the runtime", "containerd")
    told = [Wanted("http", "sealos.hub:5000", address="http://sealos.hub:5000")]
    async with world(folder) as node:
        node.keys["address"] = "http://sealos.hub:5000"
        node.put(path, "version = 2\n")
        (before,) = [each for each in await node.examined() if each.check == check]
        wired = wire_runtime(
            node.root, told, Runtime.K0S, lambda: containerd_on(node.root, Runtime.K0S, None), ()
        )
        for change in wired:
            write(node.root, change.path, change.entry)
        (after,) = [each for each in await node.examined() if each.check == check]
    assert (before.result, before.mend) == (Result.FAIL, f"{WIRE} -f {node.file}")
    assert path in [change.path for change in wired]
    assert after.result is Result.PASS


async def test_another_runtime_is_warned_of(tmp_path: Path) -> None:
    """Nothing is known of its settings."""
    assert (await way(tmp_path, "stand-in", CRIO_FILE, "")).result is Result.WARN


@pytest.mark.parametrize(("host", "needed"), [("10.1.2.3:5000", False), ("10.2.2.3:5000", True)])
def test_a_network_of_docker_covers_its_addresses(tmp_path: Path, host: str, needed: bool) -> None:
    """dockerd takes networks in insecure-registries, too."""
    file = tmp_path / DOCKER_FILE.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text('{"insecure-registries": ["10.1.0.0/16"]}')
    told = Wanted("http", host, address=f"http://{host}")
    assert bool(docker.wire(Root(tmp_path), [told], ())) is needed


async def test_a_registry_of_the_cluster(tmp_path: Path) -> None:
    """Known by the copy that the shim keeps: the runtime has to be told of it, too."""
    async with world(tmp_path) as node:
        node.kubernetes("watching")
        text = "registries: [{address: 'http://b.example'}]\n"
        source = KubernetesSource(enabled=True)
        part = ClusterPart(source, {Kind.CONFIG_MAP: Document(text, "1")})
        keep(str(tmp_path / "state"), part)
        found = await node.examined()
    (one,) = [each for each in found if each.check == "containerd's way to b.example"]
    assert one.result is Result.FAIL
    assert one.mend == f"{WIRE} -f {node.file}"


async def test_a_login_of_the_cluster(tmp_path: Path) -> None:
    """It is said where that is written, which is not the node's file."""
    async with world(tmp_path) as node:
        node.kubernetes("watching")
        text = f"sealos: {{address: '{node.hub.address}', auth: 'admin:wrong'}}\n"
        part = ClusterPart(KubernetesSource(enabled=True), {Kind.SECRET: Document(text, "1")})
        keep(str(tmp_path / "state"), part)
        found = await node.examined()
    (one,) = [each for each in found if each.check.startswith("registry ")]
    assert one.mend.startswith("in Secret kube-system/image-cri-shim, beside its address, write")


async def pause_of(place: Path, keys: dict[str, object], files: dict[str, str]) -> Finding:
    """What doctor says of the pause image, which no hub can be asked for."""
    async with world(place) as node:
        node.keys |= {"address": "http://127.0.0.1:9", **keys}
        for path, text in files.items():
            node.put(path, text)
        found = await node.examined()
    (pause,) = [each for each in found if each.check == "pause image"]
    return pause


async def test_a_pause_image_that_its_own_registry_has(tmp_path: Path) -> None:
    """The runtime gets it by itself, unless that is denied."""
    async with ScriptedRegistry() as origin:
        origin.add_image("pause", "9.9")
        keys: dict[str, object] = {"sandboxImage": f"{origin.host}/pause:9.9"}
        for fallback, result in (("allow", Result.PASS), ("deny", Result.FAIL)):
            (tmp_path / fallback).mkdir()
            found = await pause_of(tmp_path / fallback, {**keys, "fallback": fallback}, {})
            assert found.result is result


async def test_a_pause_image_that_nobody_has(tmp_path: Path) -> None:
    """No pod starts; the mend is the command that puts it on the hub."""
    found = await pause_of(tmp_path, {"sandboxImage": "127.0.0.1:8/pause:9.9"}, {})
    assert found.result is Result.FAIL
    options = "--dest-tls-verify=false --dest-creds USER:PASSWORD"
    copy = f"skopeo copy --all {options} docker://127.0.0.1:8/pause:9.9"
    assert found.mend.startswith(f"{copy} docker://127.0.0.1:9/pause:9.9  # ")


async def test_a_pause_image_with_tag_and_digest(tmp_path: Path) -> None:
    """skopeo refuses both at once; the digest stays what it is."""
    digest = "sha256:" + "a" * 64
    found = await pause_of(tmp_path, {"sandboxImage": f"127.0.0.1:8/pause:9.9@{digest}"}, {})
    options = "--dest-tls-verify=false --dest-creds USER:PASSWORD --preserve-digests"
    source, there = f"docker://127.0.0.1:8/pause@{digest}", "docker://127.0.0.1:9/pause:9.9"
    assert found.mend.startswith(f"skopeo copy --all {options} {source} {there}  # ")


async def test_a_pause_image_is_not_waited_for_longer_than_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long `probeTimeout` does not use up the time of the whole check."""
    asked: list[float] = []

    class Noted(RegistryClient):
        def __init__(self, registries: Sequence[Registry], probe_timeout_s: float) -> None:
            asked.append(probe_timeout_s)
            super().__init__(registries, probe_timeout_s=probe_timeout_s)

    monkeypatch.setattr("shimcore.doctor.pause.RegistryClient", Noted)
    await pause_of(tmp_path, {"sandboxImage": "127.0.0.1:8/pause:9.9", "probeTimeout": "25s"}, {})
    assert asked == [LONGEST_S]


async def test_a_pause_image_that_the_runtime_may_have_another_way_to(tmp_path: Path) -> None:
    """A mirror of its own is not asked here, so that nothing is known."""
    table = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."127.0.0.1:8"]\n'
    files = {"/etc/containerd/config.toml": f'version = 2\n{table}endpoint = ["http://mirror"]\n'}
    found = await pause_of(tmp_path, {"sandboxImage": "127.0.0.1:8/pause:9.9"}, files)
    assert found.result is Result.WARN
    assert "containerd has settings for it" in found.detail


@pytest.mark.parametrize(
    ("runtime", "result"), [("cri-o", Result.FAIL), ("docker", Result.PASS), ("other", Result.FAIL)]
)
async def test_a_pause_image_on_a_runtime_that_names_no_image(
    tmp_path: Path, runtime: str, result: Result
) -> None:
    """From the hub it comes under the hub's name, which the runtime has to be told of."""
    async with world(tmp_path, image_store=False) as node:
        node.name(runtime, "1.34.0")
        node.hub.add_image("pause", "9.9")
        node.keys["sandboxImage"] = "127.0.0.1:9/pause:9.9"
        (before,) = [each for each in await node.examined() if each.check == "pause image"]
        node.keys["sandboxImage"] = f"{node.hub.host}/pause:9.9"
        node.file.unlink()
        (after,) = [each for each in await node.examined() if each.check == "pause image"]
    assert before.result is result
    assert after.result is Result.PASS
    if runtime == "cri-o":
        assert f'pause_image = "{node.hub.host}/pause:9.9"' in before.mend
        assert before.mend.endswith("/etc/crio/crio.conf.d/50-pause.conf && systemctl reload crio")
    elif result is Result.FAIL:
        assert before.mend.startswith(f"name {node.hub.host}/pause:9.9 as the pause image in")


@pytest.mark.parametrize("used", [DOCKER_SOCKET, K3S_SOCKET, ""])
async def test_several_runtimes(used: str) -> None:
    """The mend names the one that kubelet uses, where it uses one of them."""
    async with contextlib.AsyncExitStack() as stack:
        # A socket's path has 107 bytes at the most.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="d-"))
        node = await stack.enter_async_context(world(Path(folder)))
        del node.keys["cri"]
        for path in (CONTAINERD, used or DOCKER_SOCKET):
            place = node.root.host(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            await stack.enter_async_context(ScriptedRuntime(str(place)))
        if used == K3S_SOCKET:  # kubelet is inside
            node.put("/var/lib/rancher/k3s/x", "")
            (node.root.directory / KUBELET.lstrip("/")).unlink()
        elif used:
            node.put(KUBELET, f"containerRuntimeEndpoint: unix://{used}\n")
        found = await node.examined()
    (one,) = [each for each in found if each.check == "runtime"]
    assert one.result is Result.FAIL
    assert one.detail.startswith("more than one container runtime is here")
    written = f"in {node.file}, write the runtime's socket (cri: {used}); then systemctl "
    assert one.mend.startswith(written if used else "set `cri:` to the socket")
