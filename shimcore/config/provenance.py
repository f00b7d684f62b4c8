"""Of each value in force: as text, and the place that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shimcore.config.document import Tree, joined
from shimcore.config.masking import masked
from shimcore.config.model import Config
from shimcore.config.reading import is_empty

DEFAULT = "default"
"""The origin of a value that nobody has given."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value in force, as text with no secret in it, and where it came from."""

    key: str
    text: str
    origin: str


def sources(config: Config) -> tuple[str, ...]:
    """The places that the configuration in force comes from, the file first."""
    return tuple(dict.fromkeys((config.source, *config.origins.values())))


def values(config: Config) -> list[Value]:
    """Every value in force, in the order of `masked`; passwords are `***`."""
    found: list[Value] = []
    for name, value in masked(config).items():
        if name == "registries":
            pairs = zip(config.further_registries, value, strict=True)
            for index, (registry, entry) in enumerate(pairs):
                found += _values(entry, f"registries[{index}]", registry.key, config)
        else:
            found += _values(value, name, name, config)
    return found


def _values(value: Any, path: str, given: str, config: Config) -> list[Value]:
    if isinstance(value, dict):
        return [
            one
            for key, item in value.items()
            for one in _values(item, joined(path, key), joined(given, key), config)
        ]
    return [Value(path, _text(value), config.origins.get(given, DEFAULT))]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def leaves(tree: Tree, path: str) -> list[str]:
    """Key paths of all that is given; a list of texts is one value, one of mappings is not."""
    if isinstance(tree, dict):
        return [leaf for key, item in tree.items() for leaf in leaves(item, joined(path, key))]
    if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        return [
            leaf for index, item in enumerate(tree) for leaf in leaves(item, f"{path}[{index}]")
        ]
    return [] if is_empty(tree) else [path]
