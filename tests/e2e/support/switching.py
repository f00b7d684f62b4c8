"""A switch of a node of the cluster, asked for as a pod of the chart does it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from shimcore.switch.undo import starting

from .cluster_node import KUBELET_CONFIG, ClusterNode
from .process import seldom, wait_for

SWITCH = "image-cri-shim-switch.service"
UNDO = "image-cri-shim-undo.service"
ROOM = "/var/lib/image-cri-shim/switch"
BUNDLES = "/opt/image-cri-shim"
_RUNS = {"active", "activating"}


def ask(
    node: ClusterNode, version: str, revision: str, *, mode: str = "install", health_s: int = 20
) -> None:
    """Write the request, and have the node's systemd start the switch."""
    request = {
        "revision": revision,
        "version": version,
        "mode": mode,
        "config": "address: http://sealos.hub:5000\nauth: admin:passw0rd\n",
        "wire_runtime": True,
        "wire_kubelet": True,
        "health_s": health_s,
        "at": "2026-01-01T00:00:00Z",
    }
    node.add(f"{ROOM}/request.json", json.dumps(request), 0o600)
    node.run(*starting(f"{BUNDLES}/{version}/image-cri-shim"), check=True)


def switched(node: ClusterNode, version: str, revision: str, **more: Any) -> str:
    """The phase in which such a switch ended."""
    ask(node, version, revision, **more)
    wait_for("the switch", lambda: is_answered(node), 60)
    return str(ended(node)["phase"])


def state(node: ClusterNode) -> dict[str, Any]:
    """What `state.json` says; {} while there is none."""
    place = node.place(f"{ROOM}/state.json")
    found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    return found


def is_answered(node: ClusterNode) -> bool:
    """Whether the switch that was asked for last has said anything."""
    asked = json.loads(node.place(f"{ROOM}/request.json").read_text())
    return bool(state(node).get("revision") == asked["revision"])


def is_at_work(node: ClusterNode) -> bool:
    """Whether the switch or its undo runs."""
    told = node.run("systemctl", "is-active", SWITCH, UNDO).stdout.split()
    return bool(_RUNS & set(told))


def is_over(node: ClusterNode) -> bool:
    """Whether the last switch has ended, and nothing of it is left."""
    phase = state(node).get("phase", "running")
    undo = node.place(f"{ROOM}/undo").exists()
    return phase != "running" and not undo and not is_at_work(node)


def ended(node: ClusterNode, timeout_s: float = 120) -> dict[str, Any]:
    """The switch's last word."""
    wait_for("the end of the switch", seldom(lambda: is_over(node)), timeout_s)
    return state(node)


def asked_at(node: ClusterNode) -> float:
    """When a switch was asked for last, in seconds since the epoch; 0 if never."""
    place = node.place(f"{ROOM}/request.json")
    return place.stat().st_mtime if place.exists() else 0.0


def back_s(node: ClusterNode, is_as_before: Callable[[], bool], timeout_s: float = 120) -> float:
    """Seconds from the request until the switch is over and the node is as it was."""

    def back() -> bool:
        return is_answered(node) and is_over(node) and is_as_before()

    wait_for("the node as it was", back, timeout_s)
    return time.time() - asked_at(node)


def is_served(node: ClusterNode) -> bool:
    """Whether its shim answers, and kubelet's file leads there."""
    wired = "image-cri-shim.sock" in node.place(KUBELET_CONFIG).read_text()
    return wired and node.crictl("version").returncode == 0


def wait_until_served(node: ClusterNode) -> None:
    """Until its shim answers, and kubelet's file leads there."""
    wait_for("the shim", lambda: is_served(node), 90)


def kubelet_starts(node: ClusterNode, since: float) -> int:
    """How often kubelet was started since then, by systemd's own word (SD_MESSAGE_UNIT_STARTED)."""
    message = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf"
    words = ("journalctl", "--quiet", "-o", "cat", f"--since=@{since:.3f}", message)
    return len(node.run(*words, "UNIT=kubelet.service", check=True).stdout.splitlines())
