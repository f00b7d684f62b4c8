"""One journal for each process that serves a state directory.

A shim that was handed over finishes its pulls beside its successor (`shimcore.daemon.handover`), so
both write. The file beside each journal (`.lock` added) is locked (flock(2)) for as long as its
process lives: the kernel lets go of it, however the process ends. It says which process that is,
and of the one that serves where it does so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass

from shimcore.images.journal import Journal, Unfinished

PROCESSES = 4
"""Processes that can finish beside each other; a hand-over is refused before there are as many."""
_NOTE_BYTES = 512
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """An older process that finishes `calls` calls."""

    pid: int
    version: str
    calls: int


@dataclass(frozen=True, slots=True)
class Serving:
    """A process that serves at these sockets since it was started with `file`."""

    file: str
    shim_socket: str
    admin_socket: str


class Journals:
    """The journals in `folder`, and which of them is this process's.

    A folder that cannot be written to gives a journal that says so by itself, without a lock.
    """

    def __init__(self, folder: str) -> None:
        self._paths = [os.path.join(folder, _name(number)) for number in range(1, PROCESSES + 1)]
        self._lock: int | None = None
        own: str | None = self._paths[0]
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            own = self._take()
        except OSError:
            pass  # the first write of the journal tells
        self._own_path = own
        self.own = Journal(own)

    def close(self) -> None:
        """Let go of the journal: what is left in it is the next process's to end."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tell(self, does: OtherProcess | Serving) -> None:
        """Say what this process does: where it serves, or that it is not the one that is asked."""
        if self._lock is not None:
            note = json.dumps(asdict(does)).encode()
            with contextlib.suppress(OSError):
                os.pwrite(self._lock, note.ljust(_NOTE_BYTES), 0)

    def others(self) -> list[OtherProcess]:
        """The processes that finish their calls beside this one."""
        found = []
        for path in self._paths:
            if path != self._own_path and (note := _note_of_locked(path)) is not None:
                found.append(note)
        return found

    async def take_over(self) -> list[Unfinished]:
        """What processes that are gone have left, which is this one's own to end from now on."""
        left: list[Unfinished] = []
        for path in self._paths:
            if path == self._own_path or (lock := _lock_of_left(path)) is None:
                continue
            try:
                left += await self.own.take_over(path)
            finally:
                os.close(lock)
        return left

    def _take(self) -> str | None:
        """The first journal that nobody holds; None when none is to be had beside those that are
        held. Raises OSError."""
        for path in self._paths:
            try:
                self._lock = _locked(path)
            except BlockingIOError:
                continue
            except OSError:
                if path == self._paths[0]:
                    raise
                return None
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock, 0)
            return path
        return None


def serving(folder: str) -> list[Serving]:
    """What processes that serve with the state in `folder` say, or that were killed did."""
    found = []
    for number in range(1, PROCESSES + 1):
        path = os.path.join(folder, f"{_name(number)}.lock")
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            note = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                found.append(Serving(**json.loads(os.pread(note, _NOTE_BYTES, 0))))
            finally:
                os.close(note)
    return found


def _name(number: int) -> str:
    return "pulls.journal" if number == 1 else f"pulls.journal.{number}"


def _locked(path: str) -> int:
    """The locked file beside a journal. Raises OSError, BlockingIOError where it is held."""
    lock = os.open(f"{path}.lock", _FLAGS | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _lock_of_left(path: str) -> int | None:
    """The lock of a journal whose process is gone; None where there is none, or it lives."""
    if not os.path.lexists(path):
        return None
    try:
        return _locked(path)
    except OSError:
        return None


def _note_of_locked(path: str) -> OtherProcess | None:
    """What the process that holds a journal says of itself; None when nobody holds it."""
    try:
        lock = os.open(f"{path}.lock", _FLAGS)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_note(os.pread(lock, _NOTE_BYTES, 0))
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def _read_note(text: bytes) -> OtherProcess:
    try:
        note = json.loads(text)
        return OtherProcess(int(note["pid"]), str(note["version"]), int(note["calls"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return OtherProcess(0, "", 0)
