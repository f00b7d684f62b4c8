"""Tries again while there is hope: the waiting half of `readiness`, loaded only to wait."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    wait_exponential,
)

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
NOTICE_INTERVAL_S = 10.0

OnWait = Callable[[str], None]
T = TypeVar("T")


async def retried(
    attempt: Callable[[], Awaitable[T]],
    may_pass: Callable[[BaseException], bool],
    timeout_s: float | None,
    on_wait: OnWait,
) -> T:
    """The first result of `attempt`; its last error when `may_pass` or the time says no."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(may_pass),
        wait=_Wait(timeout_s),
        stop=stop_never if timeout_s is None else stop_after_delay(timeout_s),
        before_sleep=_Notice(on_wait),
        reraise=True,
    )
    return await retrying(attempt)


class _Wait:
    """Seconds until the next attempt: 0.1 doubling to 2, cut at what is left of the time."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._backoff = wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)

    def __call__(self, state: RetryCallState) -> float:
        wait_s = self._backoff(state)
        if self._timeout_s is None or state.seconds_since_start is None:
            return wait_s
        return min(wait_s, max(0.0, self._timeout_s - state.seconds_since_start))


class _Notice:
    """Passes on why there is waiting: at once, then at most every 10 s."""

    def __init__(self, on_wait: OnWait) -> None:
        self._on_wait = on_wait
        self._next_s = 0.0

    def __call__(self, state: RetryCallState) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s or state.outcome is None:
            return
        self._next_s = now_s + NOTICE_INTERVAL_S
        self._on_wait(str(state.outcome.exception()))
