"""A cluster on one machine: a control plane, three nodes on a bridge, a hub as only registry."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import images
from .cluster_node import ClusterNode
from .containerd import DEBIAN, NEWEST, Release
from .control_plane import ControlPlane
from .hub import Hub
from .kubelet import SYSCTLS
from .network import Link
from .process import wait_for
from .stock_node import PAUSES

RELEASES = (DEBIAN, DEBIAN, NEWEST)
READY_S = 120.0


@dataclass(frozen=True)
class Bed:
    """All of it, running."""

    link: Link
    hub: Hub
    plane: ControlPlane
    nodes: tuple[ClusterNode, ...]

    def each(self, act: Callable[[ClusterNode], object]) -> None:
        """Do it on all nodes at once; processes of its own it may not start (see `power_on`)."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(act, self.nodes))

    def conditions(self) -> dict[str, str]:
        """Name of each node → `status` of its Ready condition."""
        return {one["metadata"]["name"]: _ready(one) for one in self.plane.get("nodes")["items"]}

    def wait_until_ready(self, timeout_s: float = READY_S) -> float:
        """Seconds until every node is Ready."""
        wanted = dict.fromkeys((node.name for node in self.nodes), "True")
        return wait_for("three nodes Ready", lambda: self.conditions() == wanted, timeout_s)

    def pods(self, *selector: str) -> list[dict[str, Any]]:
        """The pods that `kubectl get pods selector…` lists."""
        found: list[dict[str, Any]] = self.plane.get("pods", *selector)["items"]
        return found

    def join(self) -> None:
        """Let every node register itself, and give its pods their network."""
        self.each(ClusterNode.join)
        wait_for("the nodes' subnets", lambda: len(self._subnets()) == len(self.nodes), READY_S)
        subnets = self._subnets()
        for node in self.nodes:
            node.give_pods(subnets[node.name])
            self.link.route(subnets[node.name], node.ip)
            for other in self.nodes:
                if other is not node:
                    node.route(subnets[other.name], other.ip)
        self.wait_until_ready()

    def _subnets(self) -> dict[str, str]:
        nodes = self.plane.get("nodes")["items"]
        return {
            one["metadata"]["name"]: one["spec"]["podCIDR"]
            for one in nodes
            if "podCIDR" in one["spec"]
        }


@contextlib.contextmanager
def bed(releases: Sequence[Release] = RELEASES) -> Iterator[Bed]:
    """Three nodes Ready, without an image; nothing of it is left afterwards."""
    with contextlib.ExitStack() as stack:
        room = Path(tempfile.mkdtemp(prefix="cluster-e2e-"))
        stack.callback(shutil.rmtree, room)
        stack.enter_context(_sysctls_kept())
        link = Link()
        stack.callback(link.close)
        hub = Hub(room / "hub", link.ip)
        stack.callback(hub.close)
        for pause in PAUSES.values():
            hub.push(images.pause(), "pause", pause)
        plane = ControlPlane(_made(room / "plane"), ip=link.ip, pods=link.pods)
        stack.callback(plane.close)
        plane.start()
        nodes = []
        for number, release in enumerate(releases, 1):
            node = ClusterNode(f"node-{number}", 10 + number, release, plane, link)
            stack.callback(node.close)
            nodes.append(node)
            node.power_on()
        made = Bed(link, hub, plane, tuple(nodes))
        made.each(ClusterNode.come_up)
        made.join()
        yield made


@contextlib.contextmanager
def _sysctls_kept() -> Iterator[None]:
    """kubelet writes some that belong to the whole machine."""
    before = {path: path.read_text() for path in (Path("/proc/sys", name) for name in SYSCTLS)}
    try:
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


def _ready(node: dict[str, Any]) -> str:
    conditions = node.get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == "Ready"), "")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
