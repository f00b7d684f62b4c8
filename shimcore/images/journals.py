"""One journal for each process that serves a state directory.

A shim that was handed over finishes its pulls beside its successor (`shimcore.daemon.handover`), so
both write. The file beside each journal (`.lock` added) is locked (flock(2)) for as long as its
process lives: the kernel lets go of it, however the process ends. It says which process that is,
and of the one that serves where it does so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

from shimcore.config.state import StateError
from shimcore.images.journal import WITHOUT, Journal, Unfinished
from shimcore.threads import Worker

logger = logging.getLogger("shimcore.images")

_T = TypeVar("_T")

PROCESSES = 4
"""Processes that can finish beside each other; a hand-over is refused before there are as many."""
ANSWER_S = 2.0
"""A disk that takes longer may hang, and an operator waits."""
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

    The folder may be on a disk that hangs: it is asked beside the event loop. Without a lock, which
    a full disk or a read-only one has not, this process's pulls are kept in memory alone: others
    would take them for those of a process that is gone.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._paths = [os.path.join(folder, _name(number)) for number in range(1, PROCESSES + 1)]
        self._lock: int | None = None
        self._left_lock: int | None = None
        self._own_path: str | None = None
        self._loaded = False  # what an earlier process has left in it
        self._left: list[Unfinished] = []  # which is to be ended yet
        self._worker = Worker()
        self.own = Journal(None, self._worker)
        self._fault = ""
        self._said = b""

    async def hold(self) -> None:
        """From here on this process has a journal of its own, with what has begun before.

        Raises StateError where none can be had now, which is logged when the reason is another.
        """
        try:
            path = await self._answer(self._worker.do(self._take))
            if not self._loaded:
                left = await self._answer(self.own.load(path))
                self._left += left  # which another may have taken meanwhile
                self._loaded = True
                await self._answer(self.own.note(self.own.unfinished()[:1]))  # all of them
        except StateError as error:
            text = f"{error}; {WITHOUT}"
            if not self._loaded and text != self._fault:
                self._fault = text
                logger.warning("%s", text)
            raise
        self._fault = ""

    @property
    def fault(self) -> str:
        """Why pulls cannot be kept now, as it was logged; empty when they can."""
        return self._fault or self.own.fault

    async def close(self) -> None:
        """Let go of the journal: what is left in it is the next process's to end."""
        with contextlib.suppress(StateError):
            await self._answer(self._worker.do(self._release))

    async def tell(self, does: OtherProcess | Serving) -> None:
        """Say what this process does: where it serves, or that it is not the one that is asked; in
        a lock that is taken later, too."""
        self._said = json.dumps(asdict(does)).encode()
        with contextlib.suppress(StateError):
            await self._answer(self._worker.do(self._note))

    async def others(self) -> list[OtherProcess]:
        """The processes that finish their calls beside this one. Raises StateError."""
        return await self._answer(self._worker.do(self._look))

    async def take_over(self) -> list[Unfinished]:
        """What processes that are gone have left, which is this one's own to end from now on.

        Raises TimeoutError, RuntimeError as `Worker.do` does.
        """
        for path in self._paths:
            if self._own_path in (None, path):
                continue
            try:
                if await self._worker.do(partial(self._take_left, path)):
                    found = await self.own.take_over(path)
                    self._left += found
            finally:  # also of a lock that comes when nobody waits for it any more
                with contextlib.suppress(StateError):
                    await self._answer(self._worker.do(self._let_left))
        left, self._left = self._left, []
        return left

    async def _answer(self, asked: Awaitable[_T]) -> _T:
        """What the disk answers. Raises StateError, also where that takes too long."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asked
        except TimeoutError:
            raise StateError(f"stateDir {self._folder} does not answer") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be had
            reason = getattr(error, "strerror", None) or str(error)
            text = f"stateDir {self._folder}: no journal of pulls can be had there: {reason}"
            raise StateError(text) from error

    # -- in the worker's thread --------------------------------------------------------------

    def _take(self) -> str:
        """The journal that is held, else the first that nobody else holds. Raises OSError."""
        if self._lock is not None and self._own_path is not None:
            with contextlib.suppress(FileNotFoundError):
                there = os.lstat(f"{self._own_path}.lock")
                if os.path.samestat(os.fstat(self._lock), there):
                    return self._own_path
            self._release()  # the folder is another: a disk has been mounted there
            self._loaded = False
        os.makedirs(self._folder, 0o700, exist_ok=True)
        for path in self._paths:
            with contextlib.suppress(BlockingIOError):
                self._lock = _locked(path)
                self._own_path = path
                with contextlib.suppress(OSError):  # the room for a note, while there is some
                    self._note()
                return path
        raise OSError(errno.EUSERS, f"{PROCESSES} other processes have theirs")

    def _release(self) -> None:
        self._let_left()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = self._own_path = None

    def _take_left(self, path: str) -> bool:
        """Whether a journal's process is gone, and this one has its lock from now on."""
        self._let_left()
        self._left_lock = _lock_of_left(path)
        return self._left_lock is not None

    def _let_left(self) -> None:
        if self._left_lock is not None:
            os.close(self._left_lock)
            self._left_lock = None

    def _note(self) -> None:
        if self._lock is not None:
            os.pwrite(self._lock, self._said.ljust(_NOTE_BYTES), 0)

    def _look(self) -> list[OtherProcess]:
        notes = (_note_of_locked(path) for path in self._paths if path != self._own_path)
        return [note for note in notes if note is not None]


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
