"""Waits for the runtime to be there, and to be ready."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import RuntimeCallError, SeveralRuntimesError, StatusCode
from shimcore.runtime.values import RuntimeVersion

ATTEMPT_TIMEOUT_S = 5.0
"""One question; a runtime that takes longer to say its version is not ready."""

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
NOTICE_INTERVAL_S = 10.0

OnWait = Callable[[str], None]
T = TypeVar("T")


async def wait_until_ready(socket: str, timeout_s: float | None, on_wait: OnWait) -> RuntimeVersion:
    """The version of the runtime at a socket's path, once it is ready.

    `on_wait` is told why, when waiting starts and every 10 s after that. Raises
    RuntimeUnavailableError after `timeout_s`; None waits for ever.
    """
    attempt_s = ATTEMPT_TIMEOUT_S if timeout_s is None else min(ATTEMPT_TIMEOUT_S, timeout_s)
    async with RuntimeClient(socket) as client:
        ask = partial(_ready_version, client, attempt_s)
        return await retried(ask, _may_pass, timeout_s, on_wait)


async def wait_for_socket(
    timeout_s: float | None, on_wait: OnWait, candidates: Sequence[str] = KNOWN_SOCKETS
) -> str:
    """The path of the one runtime socket on the node, once there is one.

    Raises SeveralRuntimesError at once when there are more, since waiting does not mend
    that, and RuntimeUnavailableError after `timeout_s`; None waits for ever.
    """
    return await retried(partial(detect_socket, candidates), _may_pass, timeout_s, on_wait)


async def _ready_version(client: RuntimeClient, attempt_s: float) -> RuntimeVersion:
    """The runtime's version if it is ready, else RuntimeUnavailableError."""
    try:
        version = await client.version(attempt_s)
        ready, why = await client.ready(attempt_s)
    except RuntimeCallError as error:
        raise RuntimeUnavailableError(f"{client.socket}: {error}{_hint(error)}") from error
    if not ready:
        raise RuntimeUnavailableError(
            f"{version.name} at {client.socket} is not ready ({why}); see its log"
        )
    return version


def _hint(error: RuntimeCallError) -> str:
    if error.code == StatusCode.UNIMPLEMENTED:
        return "; it has no CRI: is the CRI plugin disabled in the runtime's configuration?"
    return ""


async def retried(
    attempt: Callable[[], Awaitable[T]],
    may_pass: Callable[[BaseException], bool],
    timeout_s: float | None,
    on_wait: OnWait,
) -> T:
    """The first result of `attempt`; its last error when `may_pass` or the time says no.

    Between two attempts, from the second on, 0.1 s doubling to 2, cut at what is left of the time.
    `on_wait` is told why there is waiting: at once, then at most every 10 s.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    try:
        return await attempt()
    except ShimError as error:
        if not may_pass(error):
            raise
    import tenacity  # noqa: PLC0415 - a node whose runtime is up does not wait

    backoff = tenacity.wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
    limit_s = max(0.0, deadline - time.monotonic())
    next_notice_s = 0.0

    def wait_s(state: tenacity.RetryCallState) -> float:
        return min(backoff(state), max(0.0, limit_s - (state.seconds_since_start or 0.0)))

    def notice(state: tenacity.RetryCallState) -> None:
        nonlocal next_notice_s
        now_s = time.monotonic()
        if now_s >= next_notice_s and state.outcome is not None:
            next_notice_s = now_s + NOTICE_INTERVAL_S
            on_wait(str(state.outcome.exception()))

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(may_pass),
        wait=wait_s,
        stop=tenacity.stop_after_delay(limit_s),
        before_sleep=notice,
        reraise=True,
    )
    return await retrying(attempt)


def _may_pass(error: BaseException) -> bool:
    """Whether `error` is one that time mends."""
    return isinstance(error, RuntimeUnavailableError) and not isinstance(
        error, SeveralRuntimesError
    )
