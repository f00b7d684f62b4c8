"""What all image calls of one config share."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shimcore.config import Names as Mode
from shimcore.images.brought import BroughtNames
from shimcore.images.flights import Flights
from shimcore.images.hints import Hints
from shimcore.images.names import Names
from shimcore.images.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimcore.config import Config
    from shimcore.images.ports import Registries, Runtime


@dataclass(frozen=True, slots=True)
class Parts:
    """One config's resolver, hints, names and pulls; a reload makes new ones.

    `proven`: hosts of the registries whose last pull succeeded. `pulls` counts pulls by
    (registry host, outcome): "ok", "failed", "cancelled", "side-ok", "side-failed".
    """

    config: Config
    registries: Registries
    runtime: Runtime
    resolver: Resolver
    hints: Hints
    names: Names
    side_pulls: Flights[str] = field(default_factory=Flights)
    proven: set[str] = field(default_factory=set)
    pulls: Counter[tuple[str, str]] = field(default_factory=Counter)


def make_parts(
    config: Config, registries: Registries, runtime: Runtime, clock: Callable[[], float]
) -> Parts:
    """Fresh parts: nothing remembered, nothing proven."""
    hints = Hints()
    names = Names(
        runtime,
        hints,
        enabled=config.names is not Mode.REGISTRY,
        brought=BroughtNames(runtime) if config.names is Mode.ORIGINAL else None,
    )
    return Parts(config, registries, runtime, Resolver(config, registries, clock), hints, names)


def call_deadline(config: Config, timeout_s: float | None) -> float:
    """Loop time at which work on the side ends: the caller's deadline or `timeout`, whichever
    is first."""
    limit_s = config.timeout_s if timeout_s is None else min(timeout_s, config.timeout_s)
    return asyncio.get_running_loop().time() + limit_s
