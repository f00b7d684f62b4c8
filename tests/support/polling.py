"""Waiting for what another task, thread or process does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(
    true: Callable[[], object], missing: str | Callable[[], object], within_s: float = 20.0
) -> None:
    """Poll `true` until it holds; AssertionError with what is `missing` after `within_s`."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, missing() if callable(missing) else missing
        await asyncio.sleep(0.01)
