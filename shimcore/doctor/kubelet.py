"""Kubelet's way, as the running process has it, and crictl's."""

from __future__ import annotations

import asyncio

from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.errors import ShimError
from shimcore.systemd.changes import CRICTL
from shimcore.systemd.kubelet import same_socket
from shimcore.systemd.kubelet_way import KubeletWay, Way, kubelet_way
from shimcore.systemd.wiring import CRICTL_KEYS

_WIRE = "install-service --wire-kubelet --now"
_PAST = "its pulls go past the shim"


async def look(node: Node) -> list[Finding]:
    """Both."""
    return [await asyncio.to_thread(_kubelet, node), _crictl(node)]


def _kubelet(node: Node) -> Finding:
    found = kubelet_way(node.root, node.endpoint.shim_socket, node.proc)
    running = "the running kubelet" if found.running else "kubelet"
    if found.way is Way.NO_KUBELET:
        return passed("kubelet", "there is none on this node, or it is not set up yet")
    if found.way is Way.UNKNOWN:
        by_hand = f"mend that file, or see that kubelet uses unix://{node.endpoint.shim_socket}"
        return warned("kubelet", found.detail, "run this as root" if found.refused else by_hand)
    if found.way is Way.NOT_WIRED:
        if found.stale:
            uses = found.endpoint or "the endpoint of before"
            why = f"the running kubelet has not read its files and uses {uses}: {_PAST}"
            return failed("kubelet", why, found.detail)
        what = f"{found.endpoint} for images" if found.sandboxes_alone else found.endpoint
        why = f"{running} uses {what}: {_PAST}"
        mend = found.detail or f"{node.command(_WIRE)}  # writes its files and restarts it"
        return failed("kubelet", why, mend)
    return _wired(node, found, running)


def _wired(node: Node, found: KubeletWay, running: str) -> Finding:
    if found.stale:
        why = "its files have changed since the running kubelet began, and it may not use them"
        return warned("kubelet", why, found.detail)
    if found.images_alone:
        why = f"{running} uses {found.endpoint} for images alone: nobody brings the pause image"
        return warned("kubelet", why, found.detail or node.command(_WIRE))
    return passed("kubelet", f"{running} uses {found.endpoint}")


def _crictl(node: Node) -> Finding:
    try:
        named = node.root.keys(CRICTL, CRICTL_KEYS)
    except ShimError as error:
        return warned("crictl", str(error), f"mend {CRICTL}")
    elsewhere = [
        f"{key}: {value}"
        for key, value in named.items()
        if value and not same_socket(node.root, value, node.endpoint.shim_socket)
    ]
    if elsewhere:
        why = f"{CRICTL} has {', '.join(elsewhere)}: what crictl pulls goes past the shim"
        return warned("crictl", why, node.command(_WIRE))
    if not node.root.exists(CRICTL):
        return passed("crictl", f"there is no {CRICTL}")
    return passed("crictl", f"{CRICTL} leads to the shim")
