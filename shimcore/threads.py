"""Work that may take long, or for ever, done beside the event loop: lookups of names, files.

Each has a thread of its own. In a pool those that a name server or a disk does not answer would
keep the others waiting, and a process waits for a pool's threads when it ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

SILENT_S = 10.0
"""A disk that is well answers long before: one that takes longer is told of."""
_NAME = "beside the loop"

_T = TypeVar("_T")


def started(work: Callable[[], _T], name: str = _NAME) -> Future[_T]:
    """What `work`, which has begun, will give. Raises RuntimeError where no thread can be had, and
    so does the result where no memory is left."""
    result: Future[_T] = Future()
    result.set_running_or_notify_cancel()  # nobody can take it back

    def do() -> None:
        try:
            value = work()
        except MemoryError:
            result.set_exception(RuntimeError("no memory is left"))
        except BaseException as error:  # noqa: BLE001 - whoever waits has it
            result.set_exception(error)
        else:
            result.set_result(value)

    try:
        threading.Thread(target=do, name=name, daemon=True).start()
    except MemoryError as error:
        raise RuntimeError("no memory is left") from error
    return result


async def in_thread(work: Callable[[], _T], silent: Callable[[], object] = lambda: None) -> _T:
    """What `work` gives; `silent` is called once it has taken SILENT_S. Raises what `work` does,
    and RuntimeError where no thread or no memory can be had."""
    telling = asyncio.get_running_loop().call_later(SILENT_S, silent)
    try:
        return await asyncio.wrap_future(started(work))
    finally:
        telling.cancel()


def finish(limit_s: float) -> None:
    """Let what is being done end, lookups aside, within `limit_s`: the process waits no longer."""
    deadline = time.monotonic() + limit_s
    for thread in threading.enumerate():
        if thread.name == _NAME:
            thread.join(max(deadline - time.monotonic(), 0))
