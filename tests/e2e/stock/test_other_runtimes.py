"""CRI-O, and Docker with cri-dockerd: the README's steps, and what differs from containerd."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import refuse
from tests.e2e.stock.conftest import (
    LOGIN,
    PYTHON,
    SERVICE,
    assert_pods_start_without_the_shim,
    differing,
    furnish,
    put_back,
    state,
)
from tests.e2e.support import images, packages, stock_node, switch_node
from tests.e2e.support.kubelet import BINARY, SETTINGS, containers, pod, waits
from tests.e2e.support.network import Link
from tests.e2e.support.other_nodes import OTHERS, CrioNode, OtherNode
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.steps import Step, steps
from tests.support.mending import Reader

pytestmark = pytest.mark.runtimes

COMMAND = "/usr/local/bin/image-cri-shim"
HUB = f"{stock_node.HUB}:{stock_node.HUB_PORT}"
APP = "harbor.example.com/team/app:1"


@pytest.fixture(scope="session", params=OTHERS, ids=[each.name for each in OTHERS])
def other(
    request: pytest.FixtureRequest,
    link: Link,
    wheelhouse: Path,
    stocked_hub: Registry,
    harbor: Registry,
    installed: Path,
) -> Iterator[OtherNode]:
    """A node with this runtime and the project installed by the README's first step."""
    kind: type[OtherNode] = request.param
    if missing := kind.missing():
        refuse(f"needs {', '.join(missing)} (tests/e2e/stock/build)")
    with stock_node.serving(kind(link, wheelhouse)) as node:
        stocked_hub.push(images.pause(), "pause", node.pause.rpartition(":")[2])
        furnish(node, harbor, installed)
        yield node


@pytest.fixture
def node(other: OtherNode) -> Iterator[OtherNode]:
    """The same before every test."""
    with put_back(other):
        yield other
        other.forget_mends()


@pytest.fixture
def wired(node: OtherNode, readme: list[Step]) -> OtherNode:
    """With all of the README's steps behind it, and what stood in their way."""
    file, _, install, _ = readme
    file.carry_out(node)
    wire(node, install.commands[-1])
    return node


def wire(node: OtherNode, command: str) -> None:
    """The README's command. What it says to be in the way is done as it says, once, and no more."""
    done = node.sh(command, check=False)
    assert done.returncode == (1 if node.stops else 0), done.stdout
    if not node.stops:
        return
    assert node.saying in done.stderr
    if node.stops == "runtime":  # then nothing is written
        assert not node.place(f"/etc/systemd/system/{SERVICE}").exists()
    (fault,) = [each for each in node.doctor() if each["check"] == node.stops]
    assert fault["result"] == "FAIL"
    Reader(node.sh, node.place).follow(fault)
    node.sh(command)


def names(node: OtherNode, endpoint: str = stock_node.SHIM) -> set[str]:
    """All tags on the node; docker 29 lists what was pulled by a digest among them."""
    listed = json.loads(node.crictl("images", "-o", "json", endpoint=endpoint).stdout)
    tags = (tag for image in listed["images"] for tag in image["repoTags"])
    return {tag for tag in tags if "@" not in tag}


def test_from_the_readme_to_a_running_pod_and_back(node: OtherNode, readme: list[Step]) -> None:
    """A pod of the hub's image, and another registry's beside it; both outlive the way back."""
    file, ask, install, look = readme
    file.carry_out(node)
    before = state(node)
    ask.carry_out(node)
    command = install.commands[-1]
    wire(node, command)
    installed = state(node)
    assert "installed already" in node.sh(command).stdout
    assert differing(state(node), installed) == set()
    look.carry_out(node)
    assert {each["result"] for each in node.doctor()} == {"PASS"}
    first = node.start_pod("first", "nginx:latest")

    for step in steps("docs/install.md", "Another registry"):
        step.carry_out(node)
    node.sh(f"crictl pull {APP}")
    second = node.start_pod("second", APP)
    assert node.running() == {first, second}

    file.carry_out(node)
    node.sh("image-cri-shim uninstall-service")
    assert node.running(node.endpoint) == {first, second}
    node.clear()
    node.forget_mends()
    assert differing(state(node), before) == set()


@pytest.mark.parametrize("form", [":latest", "@DIGEST", ":latest@DIGEST"])
def test_a_pull(form: str, wired: OtherNode, stocked_hub: Registry) -> None:
    """By tag, by digest and by both, it is found as it was asked for and goes as it came.

    docker has a tag's image under its own name, too; CRI-O under the hub's alone.
    """
    digest = images.busybox("nginx").digest
    asked = f"nginx{form.replace('DIGEST', digest)}"
    before = names(wired)
    absent = wired.crictl("inspecti", "--quiet", asked)
    assert absent.returncode != 0
    assert "no such image" in absent.stderr  # an answer, and no error
    wired.sh(f"crictl pull {asked}")
    own = {"nginx:latest"} if form == ":latest" and not isinstance(wired, CrioNode) else set()
    wanted = own | ({f"{HUB}/library/nginx:latest"} if form == ":latest" else set())
    assert names(wired) - before == wanted
    found = json.loads(wired.sh(f"crictl inspecti {asked}").stdout)["status"]
    # By a name cri-dockerd says that it has removed the image, and has not; kubelet gives IDs.
    wired.sh(f"crictl rmi {asked if isinstance(wired, CrioNode) else found['id']}")
    assert wired.crictl("inspecti", "--quiet", asked).returncode != 0
    assert names(wired) == before


def test_a_pod_under_never(wired: OtherNode, stocked_hub: Registry) -> None:
    """An image that is there under the hub's name alone runs with the hub down."""
    wired.sh(f"crictl -r {wired.endpoint} pull --creds {LOGIN} {HUB}/library/nginx:latest")
    wired.sh(f"crictl pull {wired.pause}")
    stocked_hub.stop()
    try:
        container = wired.start_pod("never", "nginx:latest")
        assert wired.running() == {container}
        assert wired.sh(f"crictl exec -s {container} cat /marker").stdout.strip() == "nginx"
        assert wired.sh(f"crictl exec {container} echo streamed").stdout.strip() == "streamed"
    finally:
        stocked_hub.serve()


def test_an_absent_image(wired: OtherNode) -> None:
    """The runtime's own words, and behind them what every registry said."""
    done = wired.crictl("pull", "team/nobody:1")
    assert done.returncode != 0
    assert f"image-cri-shim: {HUB}: absent" in done.stderr
    assert "passw0rd" not in wired.journal()


def test_the_runtime_restarts(wired: OtherNode) -> None:
    """Its next calls are answered, and pulled as before."""
    wired.sh("crictl pull nginx:latest && crictl rmi nginx:latest")
    wired.systemctl("restart", *wired.units)
    wait_for("the shim", lambda: wired.crictl("version").returncode == 0, 20)
    wired.sh("crictl pull nginx:latest")
    wired.sh("crictl inspecti nginx:latest")


def test_pods_start_while_the_shim_cannot(wired: OtherNode) -> None:
    """Past it, what is there under the name that a pod has; on CRI-O that is the hub's alone."""
    wired.sh("crictl pull nginx:latest")
    name = f"{HUB}/library/nginx:latest" if isinstance(wired, CrioNode) else "nginx:latest"
    assert_pods_start_without_the_shim(wired, name)


def test_a_package(node: OtherNode, readme: list[Step]) -> None:
    """In place of pip's: put to use, upgraded without a gap, and gone with all that it wrote."""
    package = "/root/image-cri-shim.deb"
    shutil.copy(next(packages.built().glob("*.deb")), node.place(package))
    before = state(node)
    node.sh(f"rm {COMMAND} && dpkg -i {package}")
    file, _, install, _ = readme
    file.carry_out(node)
    wire(node, install.commands[-1])
    assert "installed already" in node.sh(install.commands[-1]).stdout
    node.sh("crictl pull nginx:latest")
    container = node.start_pod("first", "nginx:latest")
    assert "handed over" in node.sh(f"dpkg -i {package}").stdout
    node.sh("crictl pull nginx:latest")
    assert {each["result"] for each in node.doctor()} == {"PASS"}
    assert node.running() == {container}
    node.sh("dpkg --purge image-cri-shim")
    assert node.running(node.endpoint) == {container}
    node.clear()
    node.sh(f"ln -s {PYTHON.rpartition('/')[0]}/image-cri-shim {COMMAND}")
    node.forget_mends()
    assert differing(state(node), before) == set()


def test_the_switch_of_a_fleet(node: OtherNode, stocked_hub: Registry) -> None:
    """Installed, upgraded and removed by the node itself; pip's environment beside it stays."""
    own = PYTHON.removesuffix("/bin/python3")
    before = state(node)
    kubelet = node.place("/usr/local/bin/kubelet")
    waits, mode = kubelet.read_bytes(), kubelet.stat().st_mode
    kubelet.write_text(f'#!/bin/sh\nexec {PYTHON} /opt/kubelet.py "$@"\n')
    asks = Path(switch_node.__file__).with_name("switch_kubelet.py")
    shutil.copy(asks, node.place("/opt/kubelet.py"))
    node.sh("systemctl restart kubelet")
    for version in ("1.0.0", "2.0.0"):
        switch_node.unpack(node, version, switch_node.GOOD.replace("{prefix}", own))
    config = f"address: http://{HUB}\nauth: {LOGIN}\ncri: {node.endpoint}\n"
    node.name_pause()
    try:
        for version in ("1.0.0", "2.0.0"):
            ended, _ = switch_node.switched(node, version, config=config)
            assert ended["phase"] == "healthy", ended
            node.sh("crictl pull nginx:latest")
            container = node.start_pod(f"by-{version[0]}", "nginx:latest")
        assert "handed over" in switch_node.said(node).stdout
        ended, _ = switch_node.switched(node, "2.0.0", mode="remove", revision="away")
        assert ended["phase"] == "removed", ended
        assert container in node.running(node.endpoint)
    finally:
        node.forget_mends()
        kubelet.write_bytes(waits)
        kubelet.chmod(mode)
        node.sh("systemctl restart kubelet")
    node.clear()
    node.sh(f"rm -r {switch_node.ROOM.rpartition('/')[0]}")
    assert differing(state(node), before) == set()


KUBELET_FILE = "/root/kubelet.yaml"
MANIFESTS = "/root/manifests"
STATUSES = """\
import json, urllib.request
pods = json.load(urllib.request.urlopen("http://127.0.0.1:10255/pods"))["items"] or []
print(json.dumps({pod["metadata"]["name"]: pod["status"] for pod in pods}))
"""


@contextlib.contextmanager
def kubelet(node: OtherNode) -> Iterator[None]:
    """A real one on the shim's socket, with static pods and no API server."""
    settings = {
        **SETTINGS,
        "containerRuntimeEndpoint": stock_node.SHIM,
        "staticPodPath": MANIFESTS,
        "fileCheckFrequency": "1s",
        "readOnlyPort": 10255,
        "authentication": {"webhook": {"enabled": False}, "anonymous": {"enabled": True}},
        "authorization": {"mode": "AlwaysAllow"},
    }
    node.add(KUBELET_FILE, yaml.safe_dump(settings))
    node.add("/root/statuses.py", STATUSES)
    node.place(MANIFESTS).mkdir()
    shutil.copy(BINARY, node.place("/root/kubelet"))
    # The OOM watcher wants this device.
    node.sh("test -e /dev/kmsg || mknod -m 666 /dev/kmsg c 1 3")
    node.sh(
        f"systemd-run --quiet --unit=real-kubelet /root/kubelet --config={KUBELET_FILE}"
        " --root-dir=/root/kubelet-root --cert-dir=/root/pki --hostname-override=node"
    )
    try:
        yield
    finally:
        node.sh("systemctl stop real-kubelet")
        mine = ("/root/kubelet-root", "/var/lib/kubelet/device-plugins", "/var/log/pods")
        node.sh(f"rm -rf {MANIFESTS} {' '.join(mine)} /var/log/containers")


@pytest.mark.skipif(not BINARY.exists(), reason=f"needs {BINARY} (tests/e2e/kubelet/build)")
def test_a_real_kubelet(wired: OtherNode) -> None:
    """Pods of each policy run from the hub alone, on a node that had no image; one says why not."""
    digest = images.busybox("nginx").digest
    wanted = {
        "if-not-present": pod("if-not-present", "nginx:latest"),
        "always": pod("always", "nginx", policy="Always"),
        "pinned": pod("pinned", f"nginx@{digest}"),
        "absent": pod("absent", "team/nobody:1"),
    }

    def run(name: str, one: dict[str, Any]) -> None:
        one["spec"]["hostNetwork"] = True
        wired.add(f"{MANIFESTS}/{name}.json", json.dumps(one))

    def statuses() -> dict[str, dict[str, Any]]:
        told = wired.sh("python3 /root/statuses.py", check=False)
        found: dict[str, dict[str, Any]] = json.loads(told.stdout) if told.stdout else {}
        return {name.removesuffix("-node"): status for name, status in found.items()}

    def runs(name: str) -> bool:
        found = containers(statuses().get(name, {}))
        return bool(found) and "running" in found[0]["state"]

    with kubelet(wired):
        for name, one in wanted.items():
            run(name, one)
        for name in ("if-not-present", "always", "pinned"):
            wait_for(f"{name}: {statuses()}", partial(runs, name), 90)
        wait_for("a reason", lambda: "message" in waits(statuses()["absent"]), 60)
        run("never", pod("never", "docker.io/library/nginx:latest", policy="Never"))
        wait_for("never", lambda: runs("never"), 60)
        said = waits(statuses()["absent"])["message"]
        wired.sh(f"rm {MANIFESTS}/*")
        wait_for("no pod", lambda: statuses() == {}, 60)
    assert f"image-cri-shim: {HUB}: absent" in said
