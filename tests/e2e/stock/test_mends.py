"""What `doctor` says to do is typed as it stands, and mends it."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import images, stock_node
from tests.e2e.support.network import Link
from tests.e2e.support.registry import Registry
from tests.e2e.support.steps import Step
from tests.e2e.support.stock_node import CONTAINERD, StockNode
from tests.support.mending import Reader

pytestmark = pytest.mark.e2e

CONFIG = "/etc/image-cri-shim.yaml"
HUB_HOSTS = "/etc/containerd/certs.d/sealos.hub:5000/hosts.toml"
WAY = "containerd's way to sealos.hub:5000"
HARBOR = "https://harbor.example.com"
ASTRAY = '[host."https://sealos.hub:5000"]\n  capabilities = ["pull", "resolve"]\n'


def mend_of(node: StockNode, check: str) -> str:
    """What is said to mend a check that fails."""
    (found,) = [one for one in node.doctor() if one["check"] == check]
    assert found["result"] == "FAIL", found
    return found["mend"]


def fails(node: StockNode) -> list[dict[str, str]]:
    """What stands between a pod and its image."""
    return [one for one in node.doctor() if one["result"] == "FAIL" and one["check"] != "kubelet"]


def mended(node: StockNode) -> None:
    """Nothing does any more; what did is seen to be well a little later."""
    deadline = time.monotonic() + 60
    while left := fails(node):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def pulls(node: StockNode, image: str) -> None:
    """The image comes through the shim, anew."""
    node.crictl("rmi", image)
    done = node.crictl("pull", image)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def empty_hub(link: Link, tmp_path: Path) -> Iterator[Registry]:
    """One of plain http without a login, that has no pause image."""
    hub = Registry(tmp_path / "empty", ip=link.ip, name=stock_node.HUB, port=5001)
    hub.serve()
    hub.push(images.busybox("nginx"), "library/nginx", "latest")
    yield hub
    hub.stop()


def test_the_runtimes_way(node: StockNode, readme: list[Step]) -> None:
    """Nothing is set for it; then plain http is not known; then somebody's file leads astray."""
    readme[0].carry_out(node)
    node.sh("image-cri-shim install-service --now")
    straight = ("pull", "--creds", "admin:passw0rd", "sealos.hub:5000/library/nginx:latest")
    refused = node.crictl(*straight, endpoint=CONTAINERD)
    assert "HTTP response to HTTPS client" in refused.stderr
    began = node.shows("containerd.service", "MainPID")
    mend = mend_of(node, WAY)
    node.sh(mend)
    assert node.shows("containerd.service", "MainPID") != began, "config_path is read at a restart"
    mended(node)
    pulls(node, "nginx:latest")
    assert node.crictl(*straight, endpoint=CONTAINERD).returncode == 0
    began = node.shows("containerd.service", "MainPID")
    node.sh(mend)
    assert node.shows("containerd.service", "MainPID") == began

    node.place(HUB_HOSTS).unlink()
    node.sh(mend_of(node, WAY))
    mended(node)
    pulls(node, "nginx:latest")

    node.add(HUB_HOSTS, ASTRAY)
    node.sh(mend_of(node, WAY))
    mended(node)
    pulls(node, "nginx:latest")
    node.place(HUB_HOSTS).unlink()  # somebody's, which an uninstallation leaves there


def test_an_unknown_authority(node: StockNode, readme: list[Step]) -> None:
    """The key is added where it is said to, and the rest is typed."""
    readme[0].carry_out(node)
    node.sh("image-cri-shim install-service --wire-runtime --now")
    entry = f"registries:\n  - address: {HARBOR}\n"
    node.add(CONFIG, node.place(CONFIG).read_text() + entry, 0o600)
    node.sh("systemctl reload image-cri-shim")
    check = f"registry {HARBOR}"
    reader = Reader(node.sh, node.place, {"FILE": "/etc/image-cri-shim/ca.pem"})
    reader.follow({"check": check, "mend": mend_of(node, check)})
    mended(node)
    pulls(node, "harbor.example.com/team/app:1")


def test_a_missing_pause_image(
    node: StockNode, link: Link, empty_hub: Registry, tmp_path: Path
) -> None:
    """The command copies it to the hub from a machine that has it; pods start."""
    node.add(CONFIG, f"address: {empty_hub.address}\nprobeTimeout: 20s\n", 0o600)
    node.sh("image-cri-shim install-service --wire-runtime --now")
    typed = mend_of(node, "pause image").partition("  #")[0]
    archive = images.docker_archive(images.pause(), node.pause, tmp_path / "pause.tar")
    typed = typed.replace(f"docker://{node.pause}", f"docker-archive:{archive}")
    subprocess.run(shlex.split(typed.replace(stock_node.HUB, link.ip)), check=True)
    mended(node)
    pulls(node, "nginx:latest")
    started = node.start_pod("one", "nginx:latest")
    assert node.running() == {started}
