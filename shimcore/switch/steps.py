"""The steps to another version of the shim, and the steps to a node without it.

Installing: link, file, units, the runtime's files, kubelet's, health. Removing: what
`uninstall-service` does, and a look afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from shimcore.client import admin
from shimcore.client.handover import HandOverFailedError, RunningService
from shimcore.errors import AdminError, ShimError
from shimcore.switch import health
from shimcore.switch.exchange import COMMAND, COMMAND_LINK, CONFIG, CURRENT, HANDING
from shimcore.switch.health import LOOK_S, STEADY_S
from shimcore.switch.undo import AGAIN
from shimcore.switch.work import Switch
from shimcore.systemd import install as installation
from shimcore.systemd import kubelet, record, uninstall
from shimcore.systemd.changes import Change, pending
from shimcore.systemd.entries import File, Link, read, write
from shimcore.systemd.install import Request
from shimcore.systemd.kubelet_way import kubelet_way
from shimcore.systemd.overlay import Overlay
from shimcore.systemd.record import Record
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl, main_process
from shimcore.systemd.uninstall import STATE_FILES, locks
from shimcore.systemd.units import BYPASS, BYPASS_LINK, SERVICE, SOCKET, UNITS


def install(work: Switch) -> None:
    """Do every step; raises ShimError at the first that fails, and has undone nothing."""
    work.step("link")
    _made_by_the_service(work, (BYPASS_LINK, *STATE_FILES))
    _link(work)
    work.step("configuration")
    refilled = _configuration(work)
    work.step("units")
    plan = _plan(work)
    for line in installation.install(
        plan,
        work.control,
        now=True,
        answers=work.answers,
        before_kubelet=lambda: _look_before_kubelet(work),
        running=Serving(work),
    ):
        work.say(line)
    if refilled and not work.control.began_shim:
        work.control.run("reload", SERVICE)
    work.step("health")
    work.handle.allow(0)
    deadline = work.control.touched_at + work.request.health_s
    if why := health.why_not_well(work.wanted, work.control, deadline):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


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
    if had_kubelet and (why := why_kubelet_is_not_well(unit, shim_socket, deadline)):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


@dataclass(frozen=True, slots=True)
class Serving:
    """The service that runs, as the installation asks for it."""

    work: Switch

    def is_other_version(self) -> bool:
        """Whether a process of before the switch runs on: by its version, or by its sockets."""
        at = admin.running_endpoint(CONFIG)
        try:
            found = admin.vitals(at)
        except AdminError:
            return True
        return at.changed or found is None or found.version != self.work.request.version

    def hand_over_or_restart(self, control: ServiceControl) -> str:
        """Have the version that the link leads to serve, without a gap; what was done.

        Raises ShimError.
        """
        work = self.work
        work.step("hand over")
        work.fails(f"the new version did not take over in time; see journalctl -u {SERVICE}")
        write(work.root, HANDING, File(b"", 0o600))
        work.control.touched()
        work.handle.allow(0)
        service = RunningService(admin.running_endpoint(CONFIG), COMMAND)
        try:
            return service.hand_over_or_restart(control)
        except HandOverFailedError:
            write(work.root, HANDING, None)
            raise


def why_kubelet_is_not_well(unit: str, shim_socket: str, deadline: float) -> str:
    """ "" as soon as one kubelet has run by itself for some seconds; else what is wrong."""
    since, process = 0.0, 0
    while time.monotonic() < deadline:
        now = main_process(unit)
        if now == 0 or now != process:
            since, process = time.monotonic(), now
        elif kubelet_way(Root(), shim_socket).needs_shim:
            return "kubelet still uses the shim"
        elif time.monotonic() - since >= STEADY_S:
            return ""
        time.sleep(LOOK_S)
    return f"{unit} does not stay; see journalctl -u {unit}"


def _made_by_the_service(work: Switch, paths: Iterable[str]) -> None:
    """Have the undo take these away where they are not there yet."""
    for path in paths:
        if not work.journaled.exists(path):
            work.journaled.changing(path)


def _link(work: Switch) -> None:
    root, target = work.journaled, Link(work.request.version)
    if read(root, CURRENT) != target:
        root.after_putting_back(CURRENT, AGAIN)
        write(root, CURRENT, target)


def _configuration(work: Switch) -> bool:
    """Make the node's file what was asked for, a part of the installation; whether it was not."""
    root, text = work.journaled, work.request.config
    if text is None:
        return False
    now, entry = read(root, CONFIG), File(text.encode(), 0o600)
    if isinstance(now, File) and now.content == entry.content:
        return False
    root.after_putting_back(CONFIG, AGAIN)
    kept = record.load(root) or Record()
    kept.add(root, Change(CONFIG, entry))
    kept.save(root)
    write(root, CONFIG, entry)
    work.say(f"wrote {CONFIG}")
    return True


def _plan(work: Switch) -> installation.Plan:
    """What `install-service` would do, and what the undo has to tell to whom."""
    request, root = work.request, work.journaled
    plan = installation.plan(
        Request(
            root=root,
            config_file=CONFIG,
            command=COMMAND,
            completions=work.completions,
            wire_kubelet=request.wire_kubelet,
            wire_runtime=request.wire_runtime,
        ),
        kubelet.running_command_line(),
    )
    if listens := [each for each in plan.changes if each.path == f"{UNITS}/{SOCKET}"]:
        _made_by_the_service(work, locks(Overlay(root, changes=listens)))
    plan.changes += pending(root, _command_link(work))
    for name in (SERVICE, SOCKET, BYPASS):
        root.after_putting_back(f"{UNITS}/{name}", AGAIN)
    work.wiring(plan.wiring, plan.for_runtime)
    for note in plan.notes:
        work.say(note)
    return plan


def _command_link(work: Switch) -> list[Change]:
    """For people on the node, where the name is free and the place can be written."""
    now = read(work.journaled, COMMAND_LINK)
    ours = Link(COMMAND)
    return [Change(COMMAND_LINK, ours, optional=True)] if now in (None, ours) else []


def _look_before_kubelet(work: Switch) -> None:
    work.step("doctor")
    if why := health.why_not_before_kubelet(work.wanted):
        raise ShimError(f"kubelet is as it was: {why}")
    work.step("kubelet")
