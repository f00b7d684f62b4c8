"""What all image calls of one config share."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from shimcore.images.hints import Hints
from shimcore.images.history import History
from shimcore.images.names import Names
from shimcore.images.progress import Ingests
from shimcore.images.resolver import Resolver
from shimcore.images.sandbox import PauseImage
from shimcore.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimcore.config import Config
    from shimcore.images.ports import Registries, Runtime
    from shimcore.images.transaction import Failed, Pulled, Transaction


@dataclass(slots=True)
class ImageContext:
    """One config's resolver, hints and pulls; a reload makes new ones, but keeps names and history.

    `transactions` are the pulls under way, by what makes them alike. `pulls` counts pulls by
    registry host and result, `fetched` bytes by registry host.
    """

    config: Config
    registries: Registries
    runtime: Runtime
    resolver: Resolver
    hints: Hints
    names: Names
    history: History
    ingests: Ingests
    pause: PauseImage = field(init=False)
    pulls_under_way: SingleFlight[bytes, Pulled | Failed] = field(default_factory=SingleFlight)
    transactions: WeakValueDictionary[bytes, Transaction] = field(
        default_factory=WeakValueDictionary
    )
    pulls: Counter[tuple[str, str]] = field(default_factory=Counter)
    fetched: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.pause = PauseImage(self)


def image_context(
    config: Config,
    registries: Registries,
    runtime: Runtime,
    names: Names,
    history: History,
    clock: Callable[[], float],
) -> ImageContext:
    """Fresh context: nothing remembered."""
    resolver = Resolver(config, registries, clock)
    return ImageContext(
        config, registries, runtime, resolver, Hints(), names, history, Ingests(runtime)
    )


def call_deadline(config: Config, timeout_s: float | None) -> float:
    """Loop time at which work on the side ends: the caller's deadline or `timeout`, whichever
    is first."""
    limit_s = config.timeout_s if timeout_s is None else min(timeout_s, config.timeout_s)
    return asyncio.get_running_loop().time() + limit_s
