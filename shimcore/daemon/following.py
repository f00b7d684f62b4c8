"""Follows the cluster's part of the configuration while it is wanted."""

from __future__ import annotations

import asyncio
import logging

from shimcore.cluster.documents import ClusterPart, keep
from shimcore.cluster.pace import Pace
from shimcore.cluster.watch import Follower
from shimcore.config.state import StateError
from shimcore.daemon.shim import Shim

log = logging.getLogger("shimcore.daemon")


async def follow_cluster(shim: Shim) -> None:
    """One follower after the other: a fault of ours in one shall not end the shim."""
    pace = Pace()
    failures = 0
    while True:
        source = shim.config.kubernetes
        known = shim.cluster.part

        async def tell(part: ClusterPart) -> None:
            before = shim.cluster.part
            if await shim.put_cluster(part) and (part.documents or (before and before.documents)):
                await asyncio.to_thread(_keep, shim.config.state_dir, part)

        shim.cluster.follower = Follower(
            source, known if known and known.belongs_to(source) else None, tell
        )
        try:
            await shim.cluster.follower.run()
        except Exception:
            failures += 1
            log.exception("watching the cluster's part failed, please report it; trying again")
            await asyncio.sleep(pace.refused(failures))


def _keep(folder: str, part: ClusterPart) -> None:
    try:
        keep(folder, part)
    except StateError as error:
        log.warning("%s; it will not be known after a restart while the API server is away", error)
