"""Work that may take long, or for ever, done beside the event loop: lookups of names, files.

Each has a thread of its own, or comes in its turn in a `Worker`'s. In a pool those that a name
server or a disk does not answer would keep the others waiting, and a process waits for a pool's
threads when it ends.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from shimcore.errors import ShimError

SILENT_S = 10.0
"""A disk that is well answers long before: one that takes longer is told of."""
WAITING_LIMIT = 1024
"""Pieces that wait for a worker, those included that nobody wants any more: some kB each."""
_ENDING_S = 1.0
_NO_MEMORY = "no memory is left"

_T = TypeVar("_T")
_unfinished: set[Future[Any]] = set()


class _Work(Generic[_T]):
    """A piece of work, and what it will give.

    Dropped undone, as by a thread that got no memory to begin, it gives RuntimeError. Such a thread
    ends without a word: `threading.Thread.start` would wait for it for ever.
    """

    def __init__(self, work: Callable[[], _T]) -> None:
        self.result: Future[_T] = Future()
        self._work = work

    def __call__(self) -> None:
        if not (self.result.running() or self.result.set_running_or_notify_cancel()):
            return
        try:
            value = self._work()
        except MemoryError:
            self.result.set_exception(RuntimeError(_NO_MEMORY))
        except BaseException as error:  # noqa: BLE001 - whoever waits has it
            self.result.set_exception(error)
            del self  # which the error's traceback holds
        else:
            self.result.set_result(value)

    def __del__(self) -> None:
        if not self.result.done():
            self.result.set_exception(RuntimeError(_NO_MEMORY))


def started(work: Callable[[], _T]) -> Future[_T]:
    """What `work`, which has begun, will give. Raises RuntimeError where no thread can be had, and
    so does the result where no memory is left."""
    try:
        piece = _Work(work)
        piece.result.set_running_or_notify_cancel()  # nobody can take it back
        _thread.start_new_thread(piece, ())
    except MemoryError as error:
        raise RuntimeError(_NO_MEMORY) from error
    return piece.result


def _waited_for(result: Future[_T]) -> Future[_T]:
    """The same, which `finish` waits for."""
    _unfinished.add(result)
    result.add_done_callback(_unfinished.discard)
    return result


@contextlib.contextmanager
def _told_of(silent: Callable[[], object]) -> Iterator[None]:
    telling = asyncio.get_running_loop().call_later(SILENT_S, silent)
    try:
        yield
    finally:
        telling.cancel()


async def in_thread(work: Callable[[], _T], silent: Callable[[], object] = lambda: None) -> _T:
    """What `work` gives; `silent` is called once it has taken SILENT_S. Raises what `work` does,
    and RuntimeError where no thread or no memory can be had."""
    with _told_of(silent):
        return await asyncio.wrap_future(_waited_for(started(work)))


def in_time(work: Callable[[], _T], limit_s: float) -> _T:
    """What `work` gives, for who may wait. Raises what `work` does, and TimeoutError after
    `limit_s`; where no thread can be had it is done in this one, however long it takes."""
    try:
        begun = _waited_for(started(work))
    except RuntimeError:
        return work()
    return begun.result(limit_s)


class Worker:
    """A thread that does one piece after the other, from the first one on."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._thread: Future[None] | None = None

    async def do(self, work: Callable[[], _T], silent: Callable[[], object] = lambda: None) -> _T:
        """As `in_thread`, in its turn. Work that nobody waits for any more is not begun.

        Raises TimeoutError where WAITING_LIMIT pieces wait for a disk that does not answer.
        """
        if self._jobs.qsize() >= WAITING_LIMIT:
            raise TimeoutError("the disk does not answer")
        if self._thread is None or self._thread.done():
            # Of its own: the thread before may be about to drop what waited for it.
            self._jobs = SimpleQueue()
            weakref.finalize(self, self._jobs.put, None)
            self._thread = started(partial(_work_off, self._jobs))
            self._thread.add_done_callback(partial(_drop, self._jobs))
        piece = _Work(work)
        done = piece.result
        self._jobs.put(piece)
        del piece
        if self._thread.done():  # by now
            _drop(self._jobs, self._thread)
        with _told_of(silent):
            return await asyncio.wrap_future(done)


def _work_off(jobs: SimpleQueue[_Work[Any] | None]) -> None:
    while (piece := jobs.get()) is not None:
        piece()
        del piece


def _drop(jobs: SimpleQueue[_Work[Any] | None], _: Future[None]) -> None:
    """The thread has ended, for want of memory where its worker has not."""
    with contextlib.suppress(Empty):
        while True:
            jobs.get_nowait()


def finish(limit_s: float) -> None:
    """Let what is being done end within `limit_s`, lookups and workers aside: the process waits no
    longer."""
    wait(set(_unfinished), limit_s)


def need_threads() -> None:
    """Raises ShimError where this process cannot have as many threads as gRPC starts.

    Those are one for each processor, 4 to 16 (`PosixEventEngine`), and three more; gRPC itself ends
    the process where it does not get them, without a word.
    """
    wanted = 3 + min(max(os.cpu_count() or 1, 4), 16)
    before = _thread._count()
    begun: list[Future[bool]] = []
    may_end = threading.Event()
    try:
        for _ in range(wanted):
            begun.append(started(may_end.wait))
    except RuntimeError as error:
        raise ShimError(
            f"threads cannot be had ({len(begun)} of {wanted}: {error}): see TasksMax= of the"
            " unit, pids.max of its cgroup, ulimit -u"
        ) from error
    finally:
        may_end.set()
        until = time.monotonic() + _ENDING_S
        while _thread._count() > before and time.monotonic() < until:
            time.sleep(0.001)
