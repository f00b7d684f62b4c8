"""The configuration that a shim starts with: the file, and the kept copy of the cluster's part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shimcore.config.load import load
from shimcore.config.model import Config
from shimcore.errors import ConfigError

if TYPE_CHECKING:
    from shimcore.config.kubernetes_state import Kept


@dataclass(frozen=True, slots=True)
class Start:
    """The configuration, the copy in it if there is one, and why another one is not used."""

    config: Config
    kept: Kept | None = None
    faults: tuple[str, ...] = ()


def with_kept(path: str, config: Config) -> Start:
    """`config`, loaded from `path`, with the kept copy over it where that can be used."""
    if not config.kubernetes.enabled:
        return Start(config)
    # A node without a part from the cluster does not load what reads it.
    from shimcore.config.kubernetes_state import StateError, recall  # noqa: PLC0415

    try:
        kept = recall(config.state_dir, config.kubernetes)
        if kept is None or not kept.part.documents:
            return Start(config, kept)
        return Start(load(path, kept.part), kept)
    except StateError as error:
        return Start(config, faults=(str(error),))
    except ConfigError as error:
        faults = (f"the kept copy is not used: {error.source}: {one}" for one in error.faults)
        return Start(config, faults=tuple(faults))
