"""The steps to a node without the shim: what `uninstall-service` does, and a look afterwards."""

from __future__ import annotations

import time

from shimcore.client import admin
from shimcore.errors import ShimError
from shimcore.switch.health import LOOK_S, STEADY_S
from shimcore.switch.places import CONFIG, CURRENT
from shimcore.switch.undo import KUBELET_AGAIN, unit_again
from shimcore.switch.work import Switch
from shimcore.systemd import uninstall
from shimcore.systemd.entries import write
from shimcore.systemd.kubelet import UNIT as KUBELET
from shimcore.systemd.kubelet_way import Way, kubelet_way
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import main_process


def remove(work: Switch) -> None:
    """Do every step; raises ShimError at the first that fails, and has undone nothing."""
    root = work.journaled
    work.step("uninstall")
    shim_socket = admin.endpoint_of(CONFIG).shim_socket
    had_kubelet = work.control.is_active(KUBELET)
    removal = uninstall.plan_removal(root, CONFIG, purge=True)
    for change in removal.wiring:
        root.after_putting_back(change.path, KUBELET_AGAIN)
    for change in removal.for_runtime:
        if change.then:
            root.after_putting_back(change.path, unit_again(change.then))
    for line in uninstall.uninstall(removal, work.control):
        work.say(line)
    write(root, CURRENT, None)
    work.step("health")
    work.handle.allow(0)
    deadline = work.control.touched_at + work.request.health_s
    if had_kubelet and (why := why_not_well(shim_socket, deadline)):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


def why_not_well(shim_socket: str, deadline: float) -> str:
    """ "" as soon as one kubelet has run by itself for some seconds; else what is wrong."""
    since, process = 0.0, 0
    while time.monotonic() < deadline:
        now = main_process(KUBELET)
        if now == 0 or now != process:
            since, process = time.monotonic(), now
        elif kubelet_way(Root(), shim_socket).way is Way.WIRED:
            return "kubelet still uses the shim"
        elif time.monotonic() - since >= STEADY_S:
            return ""
        time.sleep(LOOK_S)
    return f"{KUBELET} does not stay; see journalctl -u kubelet"
