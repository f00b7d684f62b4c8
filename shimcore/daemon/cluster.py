"""The running shim keeps up with the cluster's part of its configuration, and keeps a copy."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from shimcore.config.state import StateError
from shimcore.daemon.shim import Shim
from shimcore.threads import in_thread

if TYPE_CHECKING:
    from shimcore.cluster.documents import ClusterPart

log = logging.getLogger("shimcore.daemon")

KEEP_AGAIN_S = 30.0
"""When what could not be kept on disk, which may be full, is tried again; so is a part that could
not be taken up."""


async def follow(shim: Shim) -> None:
    """Keep up with the cluster for as long as the configuration wants it. Never returns."""
    while True:
        source = shim.config.kubernetes
        following = asyncio.ensure_future(_follow(shim)) if source.enabled else None
        try:
            while shim.config.kubernetes == source:
                await shim.replaced.wait()
                shim.replaced.clear()
        finally:
            shim.cluster.follower = None
            if following is not None:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following


async def _follow(shim: Shim) -> None:
    """One follower after the other: a fault of ours in one shall not end the shim."""
    # A node without a part from the cluster does not load what watches it.
    from shimcore.cluster.pace import Pace  # noqa: PLC0415
    from shimcore.cluster.watch import Follower  # noqa: PLC0415

    async def tell(part: ClusterPart) -> None:
        while True:
            try:
                await shim.put_cluster(part)
            except (OSError, RuntimeError, MemoryError) as error:
                # No descriptor, no memory or no thread is left.
                reason = str(error) or "no memory is left"
                log.error("the cluster's part cannot be taken up now: %s", reason)
                await asyncio.sleep(KEEP_AGAIN_S)
            else:
                return

    pace = Pace()
    failures = 0
    keeping = asyncio.ensure_future(_keep(shim))
    try:
        while True:
            source = shim.config.kubernetes
            known = shim.cluster.part
            own = known if known and known.belongs_to(source) else None
            shim.cluster.follower = follower = Follower(source, own, tell)
            try:
                await follower.run()
            except Exception:
                failures = 1 if follower.has_watched else failures + 1
                log.exception("watching the cluster's part failed, please report it; trying again")
                await asyncio.sleep(pace.refused(failures))
    finally:
        keeping.cancel()


async def _keep(shim: Shim) -> None:
    """Keep a copy of the part that counts whenever it has changed, at last."""
    from shimcore.cluster.documents import keep  # noqa: PLC0415

    cluster, changed = shim.cluster, shim.cluster.changed

    def tell(fault: str) -> None:
        text = f"{fault}; it will not be known after a restart while the API server is away"
        if text != cluster.keep_fault:
            log.warning("%s", text)
        cluster.keep_fault = text

    while True:
        await changed.wait()
        changed.clear()
        part, folder = cluster.part, shim.config.state_dir
        if part is None:
            continue
        try:
            await in_thread(
                partial(keep, folder, part), partial(tell, f"{folder}: it does not answer")
            )
            cluster.keep_fault = ""
        except (StateError, RuntimeError) as error:  # RuntimeError: no thread can be had
            tell(str(error))
            asyncio.get_running_loop().call_later(KEEP_AGAIN_S, changed.set)
