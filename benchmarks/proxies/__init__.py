"""Proxies in Python to compare with."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine


def run(serving: Coroutine[None, None, None]) -> None:
    """Run on the loop that the shim would take: uvloop's where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        asyncio.run(serving)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


async def until_terminated() -> None:
    """Return on SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
