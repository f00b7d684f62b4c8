"""What all image calls of one config share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from shimcore.images.hints import Hints
from shimcore.images.progress import Ingests
from shimcore.images.resolver import Resolver
from shimcore.images.sandbox import PauseImage
from shimcore.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimcore.config import Config
    from shimcore.images.history import History
    from shimcore.images.names import Names
    from shimcore.images.transaction import Failed, Pulled, Transaction
    from shimcore.registry.client import RegistryClient
    from shimcore.runtime.client import RuntimeClient


class ImageContext:
    """One config's resolver, hints and pulls; a reload makes new ones, but keeps names and history.

    `transactions` are the pulls under way, by what makes them alike.
    """

    def __init__(
        self,
        config: Config,
        registries: RegistryClient,
        runtime: RuntimeClient,
        names: Names,
        history: History,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.registries = registries
        self.runtime = runtime
        self.names = names
        self.history = history
        self.resolver = Resolver(config, registries, clock)
        self.hints = Hints()
        self.ingests = Ingests(runtime.content)
        self.pause = PauseImage(self)
        self.pulls_under_way: SingleFlight[bytes, Pulled | Failed] = SingleFlight()
        self.transactions: WeakValueDictionary[bytes, Transaction] = WeakValueDictionary()
