"""Work that may take long, done beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


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
