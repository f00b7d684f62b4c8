"""What goes over the node's file, and comes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shimcore.config.document import Tree
from shimcore.config.model import Config, LoneLogin


@dataclass(frozen=True, slots=True)
class Merged:
    """The file with all that goes over it: tree, and origin by key path."""

    tree: dict[str, Tree] = field(repr=False)
    origins: Mapping[str, str]
    notices: tuple[str, ...] = ()
    lone_logins: tuple[LoneLogin, ...] = ()


class Overlay(Protocol):
    """Something that goes over it."""

    def over(self, tree: Mapping[str, Tree], own: Config) -> Merged | None:
        """It over the file's `tree`, which by itself is `own`; None where it does not apply.

        Raises ConfigError with every fault of its own.
        """

    def __str__(self) -> str:
        """The documents that it comes from, for an error."""
