"""Each fault's mend is followed to the letter, before a real shim; `doctor` is quiet then."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.support import serving
from tests.support.apiserver import StandInApi, standing_in
from tests.support.doctor import PAUSE, USERS, name_runtime
from tests.support.doctor_bench import Bench, benched
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess
from tests.support.tls import PrivateCA

pytestmark = pytest.mark.asyncio(loop_scope="module")
RBAC = Path(__file__).parents[2] / "contrib/kubernetes/rbac.yaml"
SLOW = {"probeTimeout": "10s"}
"""For a machine that has much to do besides."""

LOGIN = "admin:hub-s3cret"
HOSTS = '[host."{0}"]\n  capabilities = ["pull", "resolve"]\n  ca = "{1}"\n'


class Node:
    """A bench with its hub and its runtime."""

    def __init__(self, bench: Bench, hub: ScriptedRegistry, runtime: ScriptedRuntime) -> None:
        self.bench = bench
        self.hub = hub
        self.runtime = runtime

    @property
    def check(self) -> str:
        return f"registry {self.hub.address}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    folder = tmp_path_factory.mktemp("mends")
    runtime = ScriptedRuntime(str(folder / "r.sock"), puller=RegistryPuller())
    async with ScriptedRegistry(users=USERS, auth="basic") as hub, runtime:
        hub.add_image("pause", "3.9")
        hub.add_image("library/web", "v1")
        keys = {"address": hub.address, "auth": LOGIN, "sandboxImage": PAUSE, **SLOW}
        async with benched(ServeProcess(folder, runtime.socket_path, **keys)) as bench:
            name_runtime(runtime, "containerd", "1.6.20")
            yield Node(bench, hub, runtime)


@pytest_asyncio.fixture(loop_scope="module")
async def node(shared: Node) -> AsyncIterator[Node]:
    """All is well with it; what a test has configured goes with that."""
    keys = dict(shared.bench.shim.keys)
    yield shared
    shared.bench.shim.keys = keys
    shared.bench.configure()


async def test_hub_down(node: Node) -> None:
    """It is started where it runs."""
    await node.hub.stop()
    await node.bench.mended(node.check, by_hand={"start it": node.bench.awaited(node.hub.start)})


async def test_breaker_open(node: Node) -> None:
    """The registry is back, and the shim does not know yet: it has tried it when doctor ends."""
    await node.hub.stop()
    assert await asyncio.to_thread(node.bench.look, "web:v1", text=False)
    await node.hub.start()
    assert await asyncio.to_thread(node.bench.look, text=False) == []


async def test_wrong_password(node: Node) -> None:
    """The right one is written, and taken up."""
    node.bench.configure(auth="admin:wrong")
    await node.bench.mended(node.check, knows={"USER:PASSWORD": LOGIN})


async def test_wrong_password_file(node: Node) -> None:
    """The right one is written into that file."""
    file = node.bench.folder / "login"
    file.touch(0o600)
    file.write_text("admin:wrong")
    del node.bench.shim.keys["auth"]
    node.bench.configure(hub={"passwordFile": str(file)})
    write = {f"write the right login into {file}": lambda: file.write_text(LOGIN)}
    await node.bench.mended(node.check, by_hand=write)


async def test_no_login(node: Node) -> None:
    """It is written beside the address."""
    del node.bench.shim.keys["auth"]
    node.bench.configure()
    await node.bench.mended(node.check, knows={"USER:PASSWORD": LOGIN})


async def test_https_for_http(node: Node) -> None:
    """The scheme that it speaks is written; the runtime is told."""
    address = node.hub.address.replace("http://", "https://")
    node.bench.configure(address=address)
    typed = await node.bench.mended(f"registry {address}")
    assert node.hub.address in typed[0]


@pytest.mark.parametrize("how", ["http for https", "expired certificate", "certificate of another"])
async def test_tls(node: Node, tmp_path: Path, how: str) -> None:
    """Scheme and certificate of another registry."""
    authority = PrivateCA(tmp_path)
    good = authority.issue("127.0.0.1")
    bad = authority.issue("127.0.0.1", days_left=-365, begins_in=-400)
    elses = authority.issue("hub.example")
    context = {"h": good, "e": bad, "c": elses}[how[0]].context()

    def renew() -> None:
        context.load_cert_chain(good.cert_file, good.key_file)

    async with ScriptedRegistry(tls=context) as other:
        folder = f"/etc/containerd/certs.d/{other.host}"
        node.bench.put(f"{folder}/hosts.toml", HOSTS.format(other.address, authority.ca_file))
        address = other.address.replace("https", "http") if "for" in how else other.address
        entry = {"address": address, "caFile": str(authority.ca_file)}
        node.bench.configure(registries=[entry])
        check = f"registry {address}"
        acts = {"renew its certificate": renew, "have a certificate issued": renew}
        await node.bench.mended(check, by_hand=acts)


async def test_clock(node: Node) -> None:
    """The right time is set."""
    node.bench.behind_s = 365 * 86_400.0
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"

    def put_right(line: str) -> None:
        node.bench.type(line)
        (noted,) = [one for one in node.bench.noted if one.startswith("date ")]
        said = noted.partition("--set=")[2]
        when = datetime.strptime(said, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert abs(when.timestamp() - time.time()) < 120
        node.bench.behind_s = 0

    await node.bench.mended("clock", knows={"YYYY-MM-DD HH:MM": now}, shell=put_right)


async def test_open_file(node: Node) -> None:
    """Others can read the login."""
    node.bench.shim.file.chmod(0o644)
    (typed,) = await node.bench.mended("configuration")
    assert typed == f"chmod 600 {node.bench.shim.file}"


async def test_config_typo(node: Node) -> None:
    """The key that is meant is named with its place; `config check` says when all is right."""
    text = node.bench.shim.file.read_text()
    typo = text.replace("address:", "adress:")
    node.bench.shim.write_text(typo)
    node.bench.type("systemctl reload image-cri-shim")
    await asyncio.to_thread(node.bench.shim.wait_log, "did you mean address?")

    def mend() -> None:
        (fault,) = [
            one
            for one in node.bench.last
            if one["check"] == "configuration" and "did you mean" in one["detail"]
        ]
        found = re.search(
            r": (\w+): unknown key; did you mean (\w+)\? \(line (\d+)", fault["detail"]
        )
        assert found
        lines = node.bench.shim.file.read_text().splitlines()
        lines[int(found[3]) - 1] = lines[int(found[3]) - 1].replace(found[1], found[2])
        node.bench.shim.write_text("\n".join(lines) + "\n")
        command = re.search(r"image-cri-shim config check \S+", fault["mend"])
        assert command
        node.bench.type(command[0])

    await node.bench.mended("configuration", by_hand={"mend it": mend})


async def test_file_gone(node: Node) -> None:
    """It is written anew."""
    text = node.bench.shim.file.read_text()
    node.bench.shim.file.unlink()
    write = {"write": lambda: node.bench.shim.write_text(text)}
    await node.bench.mended("configuration", by_hand=write)


@pytest.mark.parametrize(
    ("fault", "keys"),
    [
        ("exclude", {"exclude": ["docker.io/library/*", "quay.io/x"], "fallback": "deny"}),
        ("domains", {"hub": {"domains": ["quay.io", "127.0.0.1:9"]}}),
        ("deny", {"hub": {"domains": ["quay.io", "127.0.0.1:9"]}, "fallback": "deny"}),
    ],
)
async def test_names_that_are_not_looked_for(
    node: Node, fault: str, keys: dict[str, object]
) -> None:
    """What is said to be taken out is taken out; what is said to be added is added."""
    node.bench.configure(**keys)
    await node.bench.mended("candidates of web:v1", pull="web:v1")


HURRIED = (
    "from shimcore.cluster import pace;"
    "pace.START_SPREAD_S = pace.FIRST_SPREAD_S = pace.RETRY_FIRST_S = 0.1;"
    "from cli.main import run; run()"
)
"""The real command; a node's API server is waited for in tenths of seconds, not of minutes."""


async def test_the_clusters_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that cannot be used; a server that is away; one that refuses."""
    monkeypatch.setattr(serving, "COMMAND", (sys.executable, "-c", HURRIED))
    runtime = ScriptedRuntime(str(tmp_path / "r.sock"), puller=RegistryPuller())
    name_runtime(runtime, "containerd", "1.6.20")
    async with standing_in() as api, ScriptedRegistry() as hub, runtime:
        hub.add_image("pause", "3.9")
        keys = {"address": hub.address, "sandboxImage": PAUSE, **SLOW}
        kubeconfig = {"enabled": True, "kubeconfig": str(api.kubeconfig(tmp_path / "kubeconfig"))}
        shim = ServeProcess(tmp_path, runtime.socket_path, **keys, kubernetes=kubeconfig)
        async with benched(shim) as bench:
            await bench.quiet()
            api.put("ConfigMap", "timeout: 5m\nadress: x\n")
            await bench.told(lambda part: bool(part["error"]))
            mend_it = {"mend the ConfigMap": bench.awaited(lambda: put_good(api, bench))}
            await bench.mended("cluster source", by_hand=mend_it)

            await api.stop()
            await bench.told(lambda part: part["state"] == "away")
            start = {"start the API server": bench.awaited(api.start)}
            await bench.mended("cluster source", by_hand=start)

            api.trouble.codes[""] = 403
            api.cut()
            await bench.told(lambda part: part["state"] == "refused")
            bench.acts["kubectl -n kube-system create rolebinding"] = api.trouble.codes.clear
            await bench.mended("cluster source")
            assert given(bench.noted) == in_the_documents()


async def put_good(api: StandInApi, bench: Bench) -> None:
    """The text, once `config check` takes it."""
    text = "timeout: 5m\n"
    file = bench.folder / "configmap.yaml"
    document = {"kind": "ConfigMap", "apiVersion": "v1", "data": {"registries.yaml": text}}
    file.write_text(yaml.safe_dump(document))
    command = re.search(r"image-cri-shim config check FILE", bench.last[0]["mend"])
    assert command
    await asyncio.to_thread(bench.type, command[0].replace("FILE", str(file)))
    api.put("ConfigMap", text)


def given(noted: list[str]) -> dict[str, set[str]]:
    """What the commands of kubectl give, and to whom."""
    words = [word for line in noted if line.startswith("kubectl") for word in line.split()]
    pairs = (word.lstrip("-").partition("=") for word in words if word.startswith("--"))
    return {name: set(value.split(",")) for name, _, value in pairs}


def in_the_documents() -> dict[str, set[str]]:
    """The same in contrib/kubernetes/rbac.yaml."""
    role, binding = yaml.safe_load_all(RBAC.read_text())
    (rule,), (subject,) = role["rules"], binding["subjects"]
    return {
        "verb": set(rule["verbs"]),
        "resource": set(rule["resources"]),
        "resource-name": set(rule["resourceNames"]),
        "role": {binding["roleRef"]["name"]},
        "group": {subject["name"]},
    }
