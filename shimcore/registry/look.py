"""Asks registries that have told nothing of themselves lately: a state that is shown is not old."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shimcore.registry.answers import RegistryHealth, RegistryState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimcore.config import Registry
    from shimcore.registry.client import RegistryClient

OLD_S = 10.0
"""Older news is asked for anew; somebody who watches asks each two seconds."""

LOOK_S = 2.5
"""How long the one who asked waits for it; within what an answer of `status` may take."""

AT_ONCE = 16
"""Registries of one look. A node has one to five."""


class Look:
    """Looks at the registries of one client; questions that take longer go on meanwhile."""

    def __init__(self, client: RegistryClient, registries: Sequence[Registry]) -> None:
        self._client = client
        self._registries = registries
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Return when they have answered, or LOOK_S are over."""
        health = self._client.health()
        old = [one for one in self._registries if _is_old(health[one.host])]
        for registry in old[:AT_ONCE]:
            if registry.host not in self._asking:
                self._asking[registry.host] = asyncio.ensure_future(self._ask(registry))
        if self._asking:
            await asyncio.wait(set(self._asking.values()), timeout=LOOK_S)

    async def _ask(self, registry: Registry) -> None:
        try:
            await self._client.ping(registry)
        finally:
            del self._asking[registry.host]

    async def aclose(self) -> None:
        """End what is being asked."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _is_old(health: RegistryHealth) -> bool:
    if health.state is RegistryState.DOWN and not health.retry_in_s:
        return True  # it would be tried now
    ages = [ago for ago in (health.answered_ago_s, health.failed_ago_s) if ago is not None]
    return min(ages, default=OLD_S) >= OLD_S
