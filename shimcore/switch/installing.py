"""The steps to another version: link, file, units, the runtime's files, kubelet's, health."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from shimcore.client import admin
from shimcore.client.handover import HandOverFailedError, RunningService
from shimcore.errors import AdminError, ShimError
from shimcore.switch import health
from shimcore.switch.exchange import COMMAND, COMMAND_LINK, CONFIG, CURRENT, HANDING
from shimcore.switch.undo import AGAIN
from shimcore.switch.work import Switch
from shimcore.systemd import install as installation
from shimcore.systemd import kubelet, record
from shimcore.systemd.changes import Change, pending
from shimcore.systemd.entries import File, Link, read, write
from shimcore.systemd.install import UNITS, Request
from shimcore.systemd.record import Record
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.uninstall import STATE_FILES, locks_of
from shimcore.systemd.units import BYPASS, BYPASS_LINK, SERVICE, SOCKET


def install(work: Switch) -> None:
    """Do every step; raises ShimError at the first that fails, and has undone nothing."""
    work.step("link")
    _made_by_the_service(work, (BYPASS_LINK, *STATE_FILES))
    _link(work)
    work.step("configuration")
    refilled = _put(work, _files(work))
    work.step("units")
    plan = _plan(work)
    for line in installation.install(
        plan,
        work.control,
        now=True,
        answers=work.answers,
        before_kubelet=lambda: _look_before_kubelet(work),
        running=_Running(work),
    ):
        work.say(line)
    if refilled and not work.control.began_shim:
        work.control.run("reload", SERVICE)
    work.step("health")
    work.handle.allow(0)
    deadline = work.control.touched_at + work.request.health_s
    if why := health.why_not_well(work.wanted, work.control, deadline):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


@dataclass(frozen=True, slots=True)
class _Running:
    """The service that runs, as the installation asks for it."""

    work: Switch

    def is_other_version(self) -> bool:
        """Whether a process of before the switch runs on."""
        return other_version_serves(self.work)

    def hand_over_or_restart(self, control: ServiceControl) -> str:
        """What was done. Raises ShimError."""
        return hand_over(self.work, control)


def hand_over(work: Switch, control: ServiceControl) -> str:
    """Have the version that the link leads to serve, without a gap; what was done.

    Raises ShimError.
    """
    work.step("hand over")
    work.fails(f"the new version did not take over in time; see journalctl -u {SERVICE}")
    write(work.root, HANDING, File(b"", 0o600))
    work.control.touched()
    work.handle.allow(0)
    service = RunningService(admin.endpoint_of(CONFIG), COMMAND)
    try:
        return service.hand_over_or_restart(control)
    except HandOverFailedError:
        write(work.root, HANDING, None)
        raise


def other_version_serves(work: Switch) -> bool:
    """Whether a process of before the switch runs on."""
    try:
        found = admin.vitals(admin.endpoint_of(CONFIG))
    except AdminError:
        return True
    return found is None or found.version != work.request.version


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


def _files(work: Switch) -> list[Change]:
    """The node's file as it was asked for."""
    text = work.request.config
    if text is None:
        return []
    now = read(work.journaled, CONFIG)
    content = text.encode()
    entry = replace(now, content=content) if isinstance(now, File) else File(content, 0o600)
    return [Change(CONFIG, entry)]


def _put(work: Switch, changes: list[Change]) -> bool:
    """Make the changes a part of the installation; whether there were any."""
    root = work.journaled
    changes = pending(root, changes)
    if not changes:
        return False
    kept = record.load(root) or Record()
    for change in changes:
        root.after_putting_back(change.path, AGAIN)
        kept.add(root, change)
    kept.save(root)
    for change in changes:
        write(root, change.path, change.entry)
        work.say(f"wrote {change.path}")
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
    for change in plan.changes:
        if change.path == f"{UNITS}/{SOCKET}" and isinstance(change.entry, File):
            _made_by_the_service(work, locks_of(change.entry.content.decode()))
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
