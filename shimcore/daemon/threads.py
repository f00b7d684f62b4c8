"""Threads: that there are enough, and work that may take long, done beside the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from shimcore.errors import ShimError

_T = TypeVar("_T")


def need_threads() -> None:
    """Raises ShimError where this process cannot have as many threads as gRPC starts.

    Those are one for each processor, 4 to 16 (`PosixEventEngine`), and three more; gRPC itself ends
    the process where it does not get them, without a word.
    """
    wanted = 3 + min(max(os.cpu_count() or 1, 4), 16)
    started: list[threading.Thread] = []
    may_end = threading.Event()
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=may_end.wait)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        why = str(error) or "no memory is left"
        raise ShimError(
            f"threads cannot be had ({len(started)} of {wanted}: {why}): see TasksMax= of the"
            " unit, pids.max of its cgroup, ulimit -u"
        ) from error
    finally:
        may_end.set()
        for thread in started:
            thread.join()


async def in_thread(work: Callable[[], _T]) -> _T:
    """What `work` gives. Raises RuntimeError where no thread or no memory can be had.

    What has not begun then is not done any more.
    Python's own pool keeps what it has no thread for, and does it later: what that changes or
    opens, nobody would hear of.
    """
    wanted = True

    def do() -> _T:
        if not wanted:
            raise RuntimeError("nobody waits for it any more")
        return work()

    try:
        return await asyncio.to_thread(do)
    except RuntimeError:
        wanted = False
        raise
    except MemoryError as error:
        wanted = False
        raise RuntimeError("no memory is left") from error
