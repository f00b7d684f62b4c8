"""One switch from the request to its end: well, or as it was before."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shimcore.errors import ConfigError, ShimError
from shimcore.switch import health, steps
from shimcore.switch.exchange import (
    CURRENT,
    LOCK,
    PROCESS,
    UNDO,
    Mode,
    Phase,
    State,
    SwitchRequest,
    keep,
    read_request,
)
from shimcore.switch.handle import Handle
from shimcore.switch.health import Wanted
from shimcore.switch.journal import JournaledRoot
from shimcore.switch.preconditions import NotSwitchedError, check
from shimcore.switch.undo import HALT, HALT_DUE, SETTLE, UNDO_SERVICE, WANTS, Before
from shimcore.switch.work import Switch, SwitchControl
from shimcore.systemd.entries import File, Link, read, write
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl, began_ticks, main_process, this_machine
from shimcore.systemd.units import SERVICE, SOCKET

UNDO_S = 120.0
Say = Callable[[str], None]


def switch(completions: Mapping[str, str], say: Say) -> State:
    """Do what the request of this machine asks, and how that ended. Raises ShimError.

    `completions`: path → text.
    """
    root = Root()
    with _alone(root):
        request = read_request(root)
        _settle_an_earlier_one(root)
        link = read(root, CURRENT)
        serves = link.target if isinstance(link, Link) else None
        try:
            check(root, request)
            control = this_machine()
        except NotSwitchedError as error:
            return keep(root, State(request.revision, error.phase, serves, "check", str(error)))
        return begin(root, control, request, serves, completions, say)


def begin(
    root: Root,
    control: ServiceControl,
    request: SwitchRequest,
    serves: str | None,
    completions: Mapping[str, str],
    say: Say,
) -> State:
    """Arm the undo, and do the rest below it."""
    failing = health.failing_names()
    handle = Handle(root, control)
    journaled = JournaledRoot(root)
    journaled.journal.begin()
    serving = control.is_active(SOCKET) or control.is_active(SERVICE)
    installs = request.mode is Mode.INSTALL
    watched = SwitchControl(
        control,
        journaled.journal,
        handle,
        request.health_s,
        serving=serving,
        when_stopped=(HALT, HALT_DUE) if installs else (SETTLE,),
    )
    work = Switch(
        request=request,
        root=root,
        journaled=journaled,
        control=watched,
        handle=handle,
        wanted=Wanted(request.version, failing),
        serves=serves,
        say=say,
        completions=completions,
    )
    before = Before(serving, main_process(SERVICE), root.exists(WANTS))
    # The undo ends this process before it puts anything back.
    process = f"{os.getpid()} {began_ticks(Path('/proc/self'))}\n"
    write(root, PROCESS, File(process.encode(), 0o600))
    handle.arm(before, request.health_s)
    try:
        steps.install(work) if installs else steps.remove(work)
    except (ShimError, ConfigError, OSError) as error:
        return _undo(work, str(error))
    phase = Phase.HEALTHY if installs else Phase.REMOVED
    version = request.version if installs else None
    handle.let_go()
    return keep(root, State(request.revision, phase, version, work.step_name, "all is well"))


def clearing() -> list[str]:
    """The command that takes away what a switch that has ended needed."""
    return ["/bin/sh", UNDO]


def _undo(work: Switch, why: str) -> State:
    """Back to what was before; the script does it, as it would without this process."""
    with contextlib.suppress(ShimError):  # on a full disk the reason is lost, not the node
        work.fails(why)
    write(work.root, PROCESS, None)
    work.handle.pull(UNDO_S)
    return work.undone(why)


def _settle_an_earlier_one(root: Root) -> None:
    """One that was killed is undone first. Raises ShimError where it cannot be."""
    if not root.exists(UNDO):
        return
    write(root, PROCESS, None)
    try:
        this_machine().run("start", UNDO_SERVICE, timeout_s=UNDO_S)
    except ShimError:
        # Killed before it had its units: nothing had changed yet.
        subprocess.run(clearing(), check=False)  # noqa: S603 - our own script
    if root.exists(UNDO):
        raise ShimError(f"an earlier switch could not be undone; see journalctl -u {UNDO_SERVICE}")


@contextmanager
def _alone(root: Root) -> Iterator[None]:
    """Raises ShimError while another switch is under way. Nothing stays behind."""
    place = root.host(LOCK)
    with place.open("w") as file:
        if not _locked(file.fileno()):
            raise ShimError("another switch of this node is under way")
        try:
            yield
        finally:
            place.unlink()


def _locked(descriptor: int) -> bool:
    """Whether the lock is this process's now; not one that its owner has just removed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0
