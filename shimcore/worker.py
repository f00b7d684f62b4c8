"""A thread for work on a disk, one piece after the other: a disk that hangs may never answer.

It is not a pool's: the process does not wait for it when it ends, nor does other work for it.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_Jobs = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]

WAITING_LIMIT = 1024
"""Pieces that wait, those included that nobody wants any more: some kB each, when a disk hangs."""


class Worker:
    """The thread, called `name`; it begins with the first piece of work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._begun = False

    async def do(self, work: Callable[[], _T]) -> _T:
        """What `work` gives. Work that nobody waits for any more is not begun.

        Raises TimeoutError where too much waits for a disk that does not answer, RuntimeError where
        no thread can be had.
        """
        if self._jobs.qsize() >= WAITING_LIMIT:
            raise TimeoutError("the disk does not answer")
        if not self._begun:
            threading.Thread(
                target=_work_off, args=(self._jobs,), name=self._name, daemon=True
            ).start()
            weakref.finalize(self, self._jobs.put, None)
            self._begun = True
        done: Future[_T] = Future()
        self._jobs.put((done, work))
        return await asyncio.wrap_future(done)


def _work_off(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        done, work = job
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever waits has it
                done.set_exception(error)
        del job, done, work
