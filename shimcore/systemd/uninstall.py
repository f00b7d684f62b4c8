"""Taking an installation back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from shimcore.config.state import UNFINISHED
from shimcore.errors import ShimError
from shimcore.systemd import record
from shimcore.systemd.bypass import FAILURES
from shimcore.systemd.changes import Change, Changes, kubelet_unit, restart_kubelet
from shimcore.systemd.edits import Edit, SpliceEdit
from shimcore.systemd.entries import Entry, File, Link, read, write
from shimcore.systemd.kubelet_way import KubeletWay, kubelet_way
from shimcore.systemd.overlay import Overlay
from shimcore.systemd.packaged import unit_path
from shimcore.systemd.places import (
    DEFAULT_SHIM,
    path_of,
    runtime_socket,
    settings,
    shim_socket,
)
from shimcore.systemd.record import Record
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import docker
from shimcore.systemd.runtimes.rereading import (
    ANSWER_TIMEOUT_S,
    Answers,
    cri_answers,
    reread,
    to_read,
    to_restart,
)
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.unitfile import listening
from shimcore.systemd.units import BYPASS, BYPASS_LINK, SERVICE, SOCKET, STATE_DIR
from shimcore.threads import SILENT_S, in_time

# What the shim keeps for itself; the copies of configurations have passwords.
_JOURNALS = ("pulls.journal", "pulls.journal.2", "pulls.journal.3", "pulls.journal.4")
_STATE = (
    "last-good.json",
    "kubernetes.json",
    *_JOURNALS,
    *(f"{journal}.lock" for journal in _JOURNALS),
)
STATE_FILES = tuple(f"{STATE_DIR}/{name}" for name in _STATE)
_UNFINISHED = re.compile(rf"{UNFINISHED}|(pulls\.journal.*|bypass)\.new")
"""What a process that was killed while it wrote has left beside them."""

_NO_PROCESSES = Path(os.devnull)  # in the place of /proc: what the files say alone
_FORCE = "--force removes the shim"
_STOP = f"systemctl stop {SOCKET} ends the shim"  # and the units that need it


@dataclass(slots=True)
class Removal(Changes):
    """What is to be put back; `record` None: nothing is installed."""

    record: Record | None
    runtime: str | None = None
    """The runtime's socket, as far as that is known."""
    stale_kubelet: str = ""
    """The unit of a kubelet whose files are as they were, and which has not read that yet."""
    state_dir: str = STATE_DIR
    """The `stateDir` of the configuration, as far as that is known."""


def plan_removal(
    root: Root, config_file: str, *, purge: bool = False, force: bool = False
) -> Removal:
    """What `uninstall-service` would do. Changes nothing.

    A configuration that was written and filled in stays unless `purge`. Raises ShimError,
    without `force` also for other files that were changed by hand, and for a kubelet that was
    pointed here so, whether or not anything was installed.
    """
    known = record.load(root)
    removal = Removal(root, [], [], known, _runtime(root, config_file))
    removal.state_dir = _state_dir(root, config_file)
    shim = _usual_socket(root, config_file)
    if known is None:
        if not force:
            _refuse_a_wired_kubelet(_ways_afterwards(removal, shim), _STOP)
        return removal
    by_hand = []
    for recorded in reversed(known.files.values()):
        back = recorded.back
        now = read(root, back.path)
        if now == back.entry:
            continue  # put back by hand, or never written
        if recorded.is_ours(now) or (back.edit is None and (force or now is None)):
            removal.changes.append(back)
        elif back.edit is not None:
            _revert(removal, back, back.edit, now, force=force)
        elif back.path != config_file:
            by_hand.append(back.path)
        elif purge:
            removal.changes.append(back)
        else:
            removal.notes.append(
                f"{back.path} stays, as it was filled in (--purge would remove it)"
            )
    if by_hand:
        raise ShimError(
            f"changed by hand since they were installed: {', '.join(by_hand)}; "
            "--force puts back what was there before the installation"
        )
    if not removal.for_kubelet:
        removal.stale_kubelet = _stale_kubelet(root, known, shim)
    # A service of before is there again for a kubelet that was with it.
    if not force and not (removal.for_kubelet and known.was_active):
        _refuse_a_wired_kubelet(_ways_afterwards(removal, shim), _FORCE)
    return removal


def _ways_afterwards(removal: Removal, shim: str) -> Iterator[KubeletWay]:
    """Where kubelet goes when all is put back: once it is restarted, and until then."""
    afterwards = Overlay(removal.root, changes=removal.changes)
    yield kubelet_way(afterwards, shim, proc=_NO_PROCESSES)
    if not removal.for_kubelet and not removal.stale_kubelet:
        yield kubelet_way(removal.root, shim)


def _usual_socket(root: Root, config_file: str) -> str:
    """The shim's socket; where the configuration cannot be read, systemd's for it."""
    try:
        return shim_socket(root, config_file)
    except ShimError:
        return next(iter(listening(root, SOCKET)), DEFAULT_SHIM)


def _stale_kubelet(root: Root, known: Record, shim: str) -> str:
    """The unit of one that this installation wired and that still uses the shim; "" for none.

    Its files do not say so any more: they were put back by a removal that was broken off, or by
    hand.
    """
    wired = [each.back for each in known.files.values() if each.back.is_for_kubelet]
    if not wired or kubelet_way(root, shim, proc=_NO_PROCESSES).needs_shim:
        return ""
    way = kubelet_way(root, shim)
    uses = way.stale or way.needs_shim
    return known.kubelet or (kubelet_unit(wired) if uses else "")


def _refuse_a_wired_kubelet(ways: Iterable[KubeletWay], otherwise: str) -> None:
    """One that was pointed here by hand would be left without a runtime.

    `otherwise`: what ends the shim all the same.
    """
    if any(way.needs_shim for way in ways):
        raise ShimError(
            "kubelet was pointed at the shim by hand: take that out where it stands (its "
            "container-runtime-endpoint or image-service-endpoint) and restart it first; "
            f"{otherwise} as it is"
        )


def uninstall(
    removal: Removal, control: ServiceControl | None, *, answers: Answers = cri_answers
) -> Iterator[str]:
    """Put everything back; yields a line for each thing done. Raises ShimError.

    The runtime comes first, while kubelet is with the shim, which serves on: a kubelet that just
    starts ends where its runtime does not answer. A kubelet that runs is restarted between getting
    its old endpoint and the end of the shim, so that it is never without a runtime. `answers` says
    whether the runtime behind a socket came up again.
    """
    root, known = removal.root, removal.record
    if known is None:
        return
    removal.refuse_read_only()
    of_kubelet, left = removal.for_kubelet, locks(root)
    unit = kubelet_unit(of_kubelet) if of_kubelet else removal.stale_kubelet
    yield from _from_runtime(removal, known, control, answers)
    if control is not None and unit:
        known.kubelet = unit  # for a removal that begins again
        known.save(root)
    yield from _apply(root, removal.wiring)
    if control is not None and unit:
        control.run("daemon-reload")
        yield restart_kubelet(control, unit, "runtime")
        known.kubelet = ""
        known.save(root)
    if control is not None:
        there = [unit for unit in (SOCKET, SERVICE, BYPASS) if unit_path(root, unit)]
        if there:
            control.run("stop", *there)
        yield f"{SERVICE} stopped"
    yield from _apply(root, removal.own)
    for path in (BYPASS_LINK, FAILURES, *left):
        write(root, path, None)
    _clear(root, STATE_DIR)
    if removal.state_dir != STATE_DIR:
        yield from _clear_elsewhere(root, removal.state_dir)
    known.forget(root)
    if control is not None:
        control.run("daemon-reload")
        if known.was_active and unit_path(root, SERVICE):
            control.run("start", SERVICE)
            yield f"{SERVICE} of before runs again"


def _clear(root: Root, folder: str) -> None:
    """Remove what the shim has kept for itself there, where others may have files, too."""
    for name in root.names(folder):
        if name in _STATE or _UNFINISHED.fullmatch(name):
            write(root, f"{folder}/{name}", None)


def _clear_elsewhere(root: Root, folder: str) -> Iterator[str]:
    """The same in a folder that may be on any disk, for which nothing else waits."""
    stays = f"{folder} keeps what the shim had there, which may have passwords: remove it by hand"
    try:
        in_time(partial(_clear, root, folder), SILENT_S)
    except TimeoutError:
        yield f"{stays} (it does not answer)"
    except ShimError as error:
        yield f"{stays} ({error})"


def _from_runtime(
    removal: Removal, known: Record, control: ServiceControl | None, answers: Answers
) -> Iterator[str]:
    """Put back what the runtime was told, have it read that, and wait until it is there again."""
    root, changes = removal.root, removal.for_runtime
    thens = to_read(known.unread, changes)
    if thens and control is not None:
        known.unread = thens  # for a removal that begins again
        known.save(root)
    yield from _apply(root, changes)
    if control is None:
        return
    restarted = to_restart(control, thens)
    yield from reread(control, thens, now=True)
    if thens:
        known.unread = []
        known.save(root)
    if restarted and removal.runtime is not None and not answers(removal.runtime):
        yield (
            f"{restarted[0]} has its configuration of before, and did not answer over CRI within "
            f"{ANSWER_TIMEOUT_S:.0f} s: see journalctl -u {restarted[0]}"
        )


def _runtime(root: Root, config_file: str) -> str | None:
    """Where the bypass would lead; else as the configuration has it, or the only one there is."""
    link = read(root, BYPASS_LINK)
    if isinstance(link, Link):
        return link.target
    try:
        return runtime_socket(root, settings(root, config_file).get("cri"))
    except ShimError:
        return None


def _state_dir(root: Root, config_file: str) -> str:
    try:
        return path_of("stateDir", settings(root, config_file).get("stateDir", STATE_DIR))
    except ShimError:
        return STATE_DIR


def locks(root: Root) -> list[str]:
    """The lock files of the service's sockets, which stay when it ends."""
    return [f"{socket}{end}.lock" for socket in listening(root, SOCKET) for end in ("", ".admin")]


def _apply(root: Root, changes: list[Change]) -> Iterator[str]:
    for change in changes:
        write(root, change.path, change.entry)
        yield f"{'removed' if change.entry is None else 'restored'} {change.path}"


def _revert(removal: Removal, back: Change, edit: Edit, now: Entry | None, *, force: bool) -> None:
    """Take back our part of a file in which other things have changed as well."""
    if not isinstance(now, File):
        return  # it is gone, and our part with it
    try:
        content = record.reverted(back, edit, now.content)
    except ShimError as error:
        if not force:
            raise ShimError(f"{error}; --force leaves it as it is") from error
        removal.notes.append(f"left as it is: {error}")
        return
    if isinstance(edit, SpliceEdit) and back.then != docker.RELOAD:  # docker's is found by meaning
        lost = edit.lost(now.content.decode(errors="replace"))
        if lost:
            removal.notes.append(
                f"{back.path} was written anew since; remove what it still has of ours: {lost}"
            )
    if back.entry is None and content.strip() in {b"", b"{}"}:
        removal.changes.append(back)  # it was made for our part
        return
    if content != now.content:
        removal.changes.append(replace(back, entry=replace(now, content=content)))
        removal.notes.append(f"{back.path} has changed since; only our part is taken back")
