"""The running shim and the cluster's part of its configuration: kept copy, watch, what is said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from shimcore.config import Config, load
from shimcore.config.kubernetes import ClusterPart
from shimcore.config.kubernetes_pace import Pace
from shimcore.config.kubernetes_state import Kept, StateError, keep, recall
from shimcore.config.kubernetes_watch import Follower
from shimcore.daemon.shim import Shim
from shimcore.errors import ConfigError

log = logging.getLogger("shimcore.daemon")


def with_kept(path: str, config: Config) -> tuple[Config, Kept | None]:
    """The configuration with the kept copy over it, and that copy if it can be used."""
    if not config.kubernetes.enabled:
        return config, None
    try:
        kept = recall(config.state_dir, config.kubernetes)
        if kept is None or not kept.part.documents:
            return config, kept
        return load(path, kept.part), kept
    except StateError as error:
        log.warning("%s", error)
    except ConfigError as error:
        for fault in error.faults:
            log.error("the kept copy is not used: %s: %s", error.source, fault)
    return config, None


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
    pace = Pace()
    failures = 0
    while True:
        source = shim.config.kubernetes
        known = shim.cluster.part

        async def tell(part: ClusterPart) -> None:
            before = shim.cluster.part
            if shim.put_cluster(part) and (part.documents or (before and before.documents)):
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
