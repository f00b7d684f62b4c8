"""What the running shim does by the clock: reload, systemd's watchdog, status, statistics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

from shimcore.daemon.notify import notify
from shimcore.daemon.shim import Shim

log = logging.getLogger("shimcore.daemon")

# How often the status line is made anew where systemd has set no watchdog.
STATUS_INTERVAL_S = 10.0
# How long the shim's own socket may take to be accepted on before that counts as a fault.
ACCEPT_S = 2.0
# How often it is looked whether statistics have been switched on.
_OFF_S = 60.0


async def reload_on_change(shim: Shim, asked: asyncio.Event) -> None:
    """Look at the configuration at each interval, and at once when `asked` is set."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), shim.config.reload_interval_s or None)
        forced = asked.is_set()
        asked.clear()
        if forced:
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        await shim.reload(forced=forced)
        if forced:
            notify("READY=1")


async def watch(shim: Shim, socket: str) -> None:
    """Feed systemd's watchdog while the event loop turns and `socket` is accepted on.

    A runtime that is down goes into the status line and starves nobody.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    limit_us = int(os.environ.get("WATCHDOG_USEC") or 0)
    interval_s = limit_us / 3e6 if limit_us else STATUS_INTERVAL_S
    said = ""
    while True:
        if await _accepts(shim, socket):
            notify("WATCHDOG=1")
        report = await shim.runtime_report()
        where = f"serving {socket} for {report.socket}"
        status = where if report.ready else f"{where}, which is not ready: {report.detail}"
        if status != said:
            notify(f"STATUS={' '.join(status.split())}")
            said = status
        await asyncio.sleep(interval_s)


async def _accepts(shim: Shim, socket: str) -> bool:
    """Whether a connection to the shim's own socket is accepted by this very process."""
    before = shim.relay.accepted
    try:
        async with asyncio.timeout(ACCEPT_S):
            _, writer = await asyncio.open_unix_connection(socket)
            try:
                while shim.relay.accepted == before:  # noqa: ASYNC110 - bounded, seldom
                    await asyncio.sleep(0.005)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        log.warning("socket %s does not accept connections: %s", socket, error or "timeout")
        return False
    return True


async def log_statistics(shim: Shim) -> None:
    """One line about the cache at each `cache.statsLogInterval` in which it was used."""
    said: tuple[int, int] = (0, 0)
    while True:
        settings = shim.config.cache
        await asyncio.sleep(settings.stats_interval_s or _OFF_S)
        if not (settings.stats and settings.stats_interval_s):
            continue
        stats = shim.generations.current.images.stats()
        now = (stats["hits"], stats["misses"])
        if now != said:
            said = now
            log.info("cache: %d entries, %d hits, %d misses", stats["entries"], *now)
