"""The running shim keeps up with the cluster's part of its configuration, and keeps a copy."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from shimcore.daemon.shim import Shim


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
    # A node without a part from the cluster does not load what watches it.
    from shimcore.daemon.following import follow_cluster  # noqa: PLC0415

    await follow_cluster(shim)
