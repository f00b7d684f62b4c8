"""The steps to another version: link, file, units, the runtime's files, kubelet's, health."""

from __future__ import annotations

from dataclasses import replace

from shimcore.client import admin
from shimcore.errors import AdminError, ShimError
from shimcore.switch import health
from shimcore.switch.places import COMMAND, COMMAND_LINK, CONFIG, CURRENT
from shimcore.switch.undo import AGAIN, KUBELET_AGAIN, unit_again
from shimcore.switch.work import Switch
from shimcore.systemd import install as installation
from shimcore.systemd import kubelet, record
from shimcore.systemd.changes import Change, pending
from shimcore.systemd.entries import File, Link, read, write
from shimcore.systemd.install import UNITS, Request
from shimcore.systemd.record import Record
from shimcore.systemd.runtimes.rereading import cri_answers
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.uninstall import STATE_FILES
from shimcore.systemd.units import BYPASS, BYPASS_LINK, SERVICE, SOCKET

ANSWER_S = 40.0
"""For a runtime that was restarted to answer (`shimcore.systemd.runtimes.rereading`)."""


def install(work: Switch) -> None:
    """Do every step; raises ShimError at the first that fails, and has undone nothing."""
    root = work.journaled
    work.step("link")
    for path in (BYPASS_LINK, *STATE_FILES):
        if not root.exists(path):
            root.changing(path)  # the service makes it
    _link(work)
    work.step("configuration")
    refilled = _put(work, _files(work))
    work.step("units")
    plan = _plan(work)
    for line in installation.install(
        plan,
        work.control,
        now=True,
        answers=lambda socket: _answers(work, socket),
        before_kubelet=lambda: _look_before_kubelet(work),
    ):
        work.say(line)
    if other_version_serves(work):
        work.step("hand over")
        hand_over(work.control)
    elif refilled and not work.control.began_shim:
        work.control.run("reload", SERVICE)
    work.step("health")
    work.handle.allow(0)
    deadline = work.control.touched_at + work.request.health_s
    if why := health.why_not_well(work.wanted, work.control, deadline):
        raise ShimError(f"not well within {work.request.health_s} s: {why}")


def hand_over(control: ServiceControl) -> None:
    """Have the version that the link leads to serve. Raises ShimError."""
    control.run("restart", SERVICE)


def other_version_serves(work: Switch) -> bool:
    """Whether a process of before the switch runs on."""
    try:
        found = admin.vitals(admin.endpoint_of(CONFIG))
    except AdminError:
        return True
    return found is None or found.version != work.request.version


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
    plan.changes += pending(root, _command_link(work))
    for name in (SERVICE, SOCKET, BYPASS):
        root.after_putting_back(f"{UNITS}/{name}", AGAIN)
    for change in plan.wiring:
        root.after_putting_back(change.path, KUBELET_AGAIN)
    for change in plan.for_runtime:
        if change.then:
            root.after_putting_back(change.path, unit_again(change.then))
    for note in plan.notes:
        work.say(note)
    return plan


def _command_link(work: Switch) -> list[Change]:
    """For people on the node, where the name is free and the place can be written."""
    now = read(work.journaled, COMMAND_LINK)
    ours = Link(COMMAND)
    return [Change(COMMAND_LINK, ours, optional=True)] if now in (None, ours) else []


def _answers(work: Switch, socket: str) -> bool:
    work.step("runtime")
    work.handle.allow(ANSWER_S)
    return cri_answers(socket)


def _look_before_kubelet(work: Switch) -> None:
    work.step("doctor")
    if why := health.why_not_before_kubelet(work.wanted):
        raise ShimError(f"kubelet is as it was: {why}")
    work.step("kubelet")
