"""The configuration in force, for people: YAML's key names, every default, no secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from shimcore.config.durations import format_duration
from shimcore.config.keys import TOP_KEYS, Key, Kind
from shimcore.config.model import Config

_FORMS: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.SECRET: lambda login: f"{login.username}:***",
    Kind.DURATION: format_duration,
    Kind.DOMAINS: sorted,
    Kind.HOSTS: list,
    Kind.PATTERNS: list,
}
"""The form of a kind's values; text for every other kind."""


def masked(config: Config) -> dict[str, Any]:
    """Text, numbers, lists and mappings only, fit for YAML and JSON; passwords are `***`."""
    return _mapping(TOP_KEYS, config)


def _mapping(keys: Sequence[Key], holder: object) -> dict[str, Any]:
    """The keys' values; one that is not there is left out, or null where that has a meaning."""
    found = [(key, _value(key, holder)) for key in keys if key.kind is not Kind.OLD]
    return {key.name: value for key, value in found if value is not None or key.absent}


def _value(key: Key, holder: object) -> Any:
    value: Any = attrgetter(key.attribute)(holder)
    if key.kind is Kind.MAPPING:
        return _mapping(key.keys, value)
    if key.kind is Kind.MAPPINGS:
        return [_mapping(key.keys, one) for one in value]
    return value if value is None else _FORMS.get(key.kind, str)(value)
