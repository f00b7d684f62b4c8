"""What one document says, in the format of the node's file, and what of it does not count."""

from __future__ import annotations

from dataclasses import dataclass, field

from shimcore.config.document import Tree
from shimcore.config.model import LoneLogin

_SHOWN_PATHS = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """What one document says, before it is read."""

    tree: dict[str, Tree] = field(repr=False)  # it has passwords
    origin: str
    notices: tuple[str, ...] = ()
    lone_logins: tuple[LoneLogin, ...] = ()


class Ignored:
    """Keys that do not count, told as one line for each document and reason."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], list[str]] = {}

    def note(self, origin: str, path: str, reason: str) -> None:
        """Note one key."""
        self._paths.setdefault((origin, reason), []).append(path)

    def lines(self) -> list[str]:
        """The lines; of many paths the first few."""
        return [
            f"{origin}: {_some(paths)}: ignored: {reason}"
            for (origin, reason), paths in self._paths.items()
        ]


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN_PATHS} more" if len(paths) > _SHOWN_PATHS else ""
    return ", ".join(paths[:_SHOWN_PATHS]) + more
