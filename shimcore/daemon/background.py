"""What the running shim does by the clock: reload, systemd's watchdog, status, statistics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import time
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from socket import socket as Socket  # noqa: N812 - beside paths that are called so

from shimcore.config.model import OnFailure
from shimcore.config.state import StateError
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.cluster import KEEP_AGAIN_S
from shimcore.daemon.front import Front
from shimcore.daemon.notify import notify
from shimcore.daemon.shim import RuntimeReport, Shim
from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.runtime.detection import detect_socket
from shimcore.runtime.errors import SeveralRuntimesError
from shimcore.systemd.bypass import keep_link
from shimcore.threads import in_thread

log = logging.getLogger("shimcore.daemon")

# How often the status line is made anew where systemd has set no watchdog.
STATUS_INTERVAL_S = 10.0
# How long the shim's own socket may take to be accepted on before that counts as a fault.
ACCEPT_S = 2.0
# How long nobody may accept at all: a hand-over that fails at its end has its sockets back in half
# of that.
UNSERVED_S = 30.0
# How often it is looked whether statistics have been switched on.
_OFF_S = 60.0
# How often it is looked whether a runtime has appeared, where none was on the node.
_APPEARS_S = 2.0
# How long a moment without memory is borne.
_MEMORY_S = 1.0
# How often it is looked whether an older process, which finishes its calls, is gone.
_OTHERS_S = 2.0

_ASTRAY = "its path does not lead to systemd's socket any more, so no new client comes"
_RESTART = "systemctl restart image-cri-shim.socket"


async def done_again(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, and anew after a moment in which no memory was left: that ends no shim."""
    while True:
        try:
            return await work()
        except MemoryError:
            log.error("no memory is left for what goes on in the background: it begins anew")
        await asyncio.sleep(_MEMORY_S)


async def reload_on_change(shim: Shim, asked: asyncio.Event) -> None:
    """Look at the configuration at each interval, and at once when `asked` is set."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), shim.config.reload_interval_s or None)
        forced = asked.is_set()
        asked.clear()
        if forced:
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            await shim.reload(forced=forced)
        except (OSError, RuntimeError, MemoryError) as error:
            # No descriptor, no memory or no thread is left: the next look is another.
            log.error(
                "the configuration cannot be looked at: %s", str(error) or "no memory is left"
            )
        if forced:
            notify("READY=1")


async def watch(shim: Shim, front: Front) -> None:
    """Feed systemd's watchdog while the event loop turns and the socket is accepted on.

    A runtime that is down goes into the status line and starves nobody; so does a path that no
    longer leads to systemd's socket, which another start would not mend.
    """
    socket = shim.socket
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    limit_us = int(os.environ.get("WATCHDOG_USEC") or 0)
    interval_s = limit_us / 3e6 if limit_us else STATUS_INTERVAL_S
    said, before = "", _Path.OURS
    loop = asyncio.get_running_loop()
    unserved_since = loop.time()
    while True:
        acceptor = front.acceptor
        if acceptor is not None:
            unserved_since = loop.time()
            leads = await _where(acceptor, socket, front.socket)
            if leads is _Path.ELSEWHERE and before is not leads:
                log.error("socket %s: %s: %s", socket, _ASTRAY, _RESTART)
            before = leads
            well = leads is not _Path.DEAF
        else:  # while it is being handed over, nobody accepts for a moment
            well = loop.time() - unserved_since < UNSERVED_S
        if well:
            notify("WATCHDOG=1")
        status = _status(await shim.runtime_report(), socket, before)
        if status != said:
            notify(f"STATUS={' '.join(status.split())}")
            said = status
        await asyncio.sleep(interval_s)


class _Path(Enum):
    """What a client finds at the path of the shim's socket."""

    OURS = auto()
    DEAF = auto()
    """This process, which does not accept."""
    ELSEWHERE = auto()
    """Nothing, or another's socket: systemd's, which this process accepts on, was there."""


def _status(report: RuntimeReport, socket: str, leads: _Path) -> str:
    status = f"serving {socket} for {report.socket}"
    if leads is _Path.ELSEWHERE:
        return f"{status}, but {_ASTRAY}: {_RESTART}"
    return status if report.ready else f"{status}, which is not ready: {report.detail}"


async def _where(acceptor: Acceptor, path: str, inherited: Socket | None) -> _Path:
    """Whether a connection to the shim's own path is accepted by this very process."""
    before = acceptor.accepted
    try:
        async with asyncio.timeout(ACCEPT_S):
            _, writer = await asyncio.open_unix_connection(path)
            try:
                while acceptor.accepted == before:  # noqa: ASYNC110 - bounded, seldom
                    await asyncio.sleep(0.005)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        if inherited is not None and _is_elsewhere(error, inherited):
            return _Path.ELSEWHERE
        log.warning("socket %s does not accept connections: %s", path, str(error) or "timeout")
        return _Path.DEAF
    return _Path.OURS


def _is_elsewhere(error: Exception, listening: Socket) -> bool:
    """Whether it failed for the path: nobody is there, or a connection that was made to it does
    not wait here."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return True
    waiting = select.poll()
    waiting.register(listening, select.POLLIN)
    return isinstance(error, TimeoutError | BlockingIOError) and not waiting.poll(0)


async def keep_bypass(shim: Shim) -> None:
    """Leave word for the time when the shim cannot start: where the bypass leads, if anywhere."""
    again_s: float | None = None
    folder, then = os.environ.get("STATE_DIRECTORY"), "the bypass leads where it did"
    silent = f"{folder}: it does not answer; if the shim does not start, {then}"

    def tell(fault: str) -> None:
        if fault != shim.bypass_fault:
            log.error("%s", fault)
        shim.bypass_fault = fault

    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shim.bypass_due.wait(), again_s)
        shim.bypass_due.clear()
        allowed = shim.config.on_failure is OnFailure.BYPASS
        runtime = shim.runtime_socket if allowed else None
        again_s = None
        try:
            await in_thread(partial(keep_link, runtime), lambda: tell(silent))
            shim.bypass_fault = ""
        except (StateError, RuntimeError) as error:  # RuntimeError: no thread can be had
            tell(str(error))
            again_s = KEEP_AGAIN_S


async def end_left(shim: Shim) -> None:
    """End what the pulls of earlier processes have left: of those that are gone at once, of those
    that finish their calls when they are. It goes on until this process has a journal, too."""
    generations = shim.generations
    journals, more = generations.journals, True
    while more:
        try:
            await journals.hold()
            more = bool(await journals.others())
            left = await journals.take_over()
        except (StateError, OSError, RuntimeError):  # full, hung, or not there: it is told
            more = True
        else:
            await generations.names.end_left(left, shim.config.names)
        await asyncio.sleep(_OTHERS_S)


async def find_runtime(shim: Shim) -> None:
    """Until a runtime is where one was assumed. Raises ShimError where it is elsewhere.

    All that a process has of its runtime is of one socket: the next start finds the other one.
    """
    assumed = shim.runtime_socket
    found = None
    while found is None:
        await asyncio.sleep(_APPEARS_S)
        try:
            found = await detect_socket()
        except SeveralRuntimesError as error:
            if assumed not in error.sockets:
                raise
            found = assumed
        except (RuntimeUnavailableError, OSError, RuntimeError):
            continue  # none yet; or no descriptor or no memory is left
    if found != assumed:
        raise ShimError(
            f"a container runtime has appeared at {found}, where {assumed} was assumed: this "
            "process ends, and the next start takes it; set `cri:` in the configuration to be "
            "without that"
        )


async def log_statistics(shim: Shim) -> None:
    """One line about the cache at each `cache.statsLogInterval` in which it was used."""
    said: tuple[int, int] = (0, 0)
    while True:
        settings = shim.config.cache
        await asyncio.sleep(settings.stats_interval_s or _OFF_S)
        if settings.disable_stats:
            continue
        stats = shim.generations.current.images.stats()
        now = (stats["hits"], stats["misses"])
        if now != said:
            said = now
            log.info("cache: %d entries, %d hits, %d misses", stats["entries"], *now)
