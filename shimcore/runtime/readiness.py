"""Waits for the runtime to be there, and to be ready."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from shimcore.errors import RuntimeUnavailableError
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
        attempt = partial(_ready_version, client, attempt_s)
        return await retried(attempt, _may_pass, timeout_s, on_wait)


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
    may_pass: Callable[[Exception], bool],
    timeout_s: float | None,
    on_wait: OnWait,
) -> T:
    """The first result of `attempt`; its last error when `may_pass` or the time says no.

    Between two attempts 0.1 s doubling to 2, cut at what is left of the time. `on_wait` is told
    why there is waiting: at once, then at most every 10 s.
    """
    started, wait_s, next_notice_s = time.monotonic(), FIRST_WAIT_S, 0.0
    while True:
        try:
            return await attempt()
        except Exception as error:
            passed_s = time.monotonic() - started
            left_s = math.inf if timeout_s is None else timeout_s - passed_s
            if left_s <= 0 or not may_pass(error):
                raise
            if passed_s >= next_notice_s:
                next_notice_s = passed_s + NOTICE_INTERVAL_S
                on_wait(str(error))
        await asyncio.sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


def _may_pass(error: Exception) -> bool:
    """Whether `error` is one that time mends."""
    return isinstance(error, RuntimeUnavailableError) and not isinstance(
        error, SeveralRuntimesError
    )
