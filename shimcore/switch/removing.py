"""The steps to a node without the shim: what `uninstall-service` does, and a look afterwards."""

from __future__ import annotations

import time

from shimcore.client import admin
from shimcore.errors import ShimError
from shimcore.switch.exchange import CONFIG, CURRENT
from shimcore.switch.health import LOOK_S, STEADY_S
from shimcore.switch.work import Switch
from shimcore.systemd import uninstall
from shimcore.systemd.entries import write
from shimcore.systemd.kubelet_way import Way, kubelet_way
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import main_process


def remove(work: Switch) -> None:
    """Do every step; raises ShimError at the first that fails, and has undone nothing."""
    root = work.journaled
    work.step("uninstall")
    shim_socket = admin.endpoint_of(CONFIG).shim_socket
    removal = uninstall.plan_removal(root, CONFIG, purge=True)
    unit = work.wiring(removal.wiring, removal.for_runtime)
    had_kubelet = work.control.is_active(unit)
    for line in uninstall.uninstall(removal, work.control, answers=work.answers):
        work.say(line)
    write(root, CURRENT, None)
    work.step("health")
    work.handle.allow(0)
    deadline = work.control.touched_at + work.request.health_s
    if had_kubelet and (why := why_not_well(unit, shim_socket, deadline)):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


def why_not_well(unit: str, shim_socket: str, deadline: float) -> str:
    """ "" as soon as one kubelet has run by itself for some seconds; else what is wrong."""
    since, process = 0.0, 0
    while time.monotonic() < deadline:
        now = main_process(unit)
        if now == 0 or now != process:
            since, process = time.monotonic(), now
        elif kubelet_way(Root(), shim_socket).way is Way.WIRED:
            return "kubelet still uses the shim"
        elif time.monotonic() - since >= STEADY_S:
            return ""
        time.sleep(LOOK_S)
    return f"{unit} does not stay; see journalctl -u {unit}"
