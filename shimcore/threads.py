"""Work that may take long, or for ever, done beside the event loop: lookups of names, files.

Each has a thread of its own, or comes in its turn in a `Worker`'s. In a pool those that a name
server or a disk does not answer would keep the others waiting, and a process waits for a pool's
threads when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from shimcore.errors import ShimError

SILENT_S = 10.0
"""A disk that is well answers long before: one that takes longer is told of."""
WAITING_LIMIT = 1024
"""Pieces that wait for a worker, those included that nobody wants any more: some kB each."""
_NAME = "beside the loop"

_T = TypeVar("_T")
_Jobs = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


def started(work: Callable[[], _T], name: str = _NAME) -> Future[_T]:
    """What `work`, which has begun, will give. Raises RuntimeError where no thread can be had, and
    so does the result where no memory is left."""
    result: Future[_T] = Future()
    result.set_running_or_notify_cancel()  # nobody can take it back
    try:
        threading.Thread(target=_do, args=(work, result), name=name, daemon=True).start()
    except MemoryError as error:
        raise RuntimeError("no memory is left") from error
    return result


def _do(work: Callable[[], _T], result: Future[_T]) -> None:
    try:
        value = work()
    except MemoryError:
        result.set_exception(RuntimeError("no memory is left"))
    except BaseException as error:  # noqa: BLE001 - whoever waits has it
        result.set_exception(error)
    else:
        result.set_result(value)


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
        return await asyncio.wrap_future(started(work))


def in_time(work: Callable[[], _T], limit_s: float) -> _T:
    """What `work` gives, for who may wait. Raises what `work` does, and TimeoutError after
    `limit_s`; where no thread can be had it is done in this one, however long it takes."""
    try:
        begun = started(work)
    except RuntimeError:
        return work()
    return begun.result(limit_s)


class Worker:
    """A thread, called `name`, that does one piece after the other, from the first one on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._begun = False

    async def do(self, work: Callable[[], _T], silent: Callable[[], object] = lambda: None) -> _T:
        """As `in_thread`, in its turn. Work that nobody waits for any more is not begun.

        Raises TimeoutError where WAITING_LIMIT pieces wait for a disk that does not answer.
        """
        if self._jobs.qsize() >= WAITING_LIMIT:
            raise TimeoutError("the disk does not answer")
        if not self._begun:
            started(partial(_work_off, self._jobs), self._name)
            weakref.finalize(self, self._jobs.put, None)
            self._begun = True
        done: Future[_T] = Future()
        self._jobs.put((done, work))
        with _told_of(silent):
            return await asyncio.wrap_future(done)


def _work_off(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        done, work = job
        if done.set_running_or_notify_cancel():
            _do(work, done)
        del job, done, work


def finish(limit_s: float) -> None:
    """Let what is being done end within `limit_s`, lookups and workers aside: the process waits no
    longer."""
    deadline = time.monotonic() + limit_s
    for thread in threading.enumerate():
        if thread.name == _NAME:
            thread.join(max(deadline - time.monotonic(), 0))


def need_threads() -> None:
    """Raises ShimError where this process cannot have as many threads as gRPC starts.

    Those are one for each processor, 4 to 16 (`PosixEventEngine`), and three more; gRPC itself ends
    the process where it does not get them, without a word.
    """
    wanted = 3 + min(max(os.cpu_count() or 1, 4), 16)
    begun: list[threading.Thread] = []
    may_end = threading.Event()
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=may_end.wait)
            thread.start()
            begun.append(thread)
    except (RuntimeError, MemoryError) as error:
        why = str(error) or "no memory is left"
        raise ShimError(
            f"threads cannot be had ({len(begun)} of {wanted}: {why}): see TasksMax= of the"
            " unit, pids.max of its cgroup, ulimit -u"
        ) from error
    finally:
        may_end.set()
        for thread in begun:
            thread.join()
