"""The JSON schema of the configuration file, for editors; it follows from the table of keys.

Draft-07, which the YAML language servers of editors know best. A scalar may stand there as
YAML's own number or boolean or as text: the reader takes all scalars as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shimcore.config.keys import TOP_KEYS, Key, Kind

_DURATION = r"^([+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|[+-]?0)?$"
_INTEGER = r"^([+-]?[0-9]{1,18})?$"
_BOOLEAN = (
    r"^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo][Nn]|[Oo][Ff][Ff])?$"
)

_SCALARS: dict[Kind, dict[str, Any]] = {
    Kind.BOOLEAN: {"type": ["boolean", "string", "null"], "pattern": _BOOLEAN},
    Kind.INTEGER: {"type": ["integer", "string", "null"], "pattern": _INTEGER},
    # As a number, 0 alone: every other one needs a unit.
    Kind.DURATION: {"type": ["string", "integer", "null"], "pattern": _DURATION, "maximum": 0},
    Kind.SOCKET: {"type": ["string", "null"], "pattern": r"^((unix:)?(//)?/.*)?$"},
    Kind.ADDRESS: {"type": ["string", "null"], "pattern": r"^[^@?#]*$"},
    Kind.SECRET: {"type": ["string", "number", "null"]},
    Kind.PATH: {"type": ["string", "null"]},
    Kind.LISTEN: {"type": ["string", "integer", "null"], "pattern": r"^(.*:)?[0-9]{1,5}$|^$"},
    Kind.TEMPLATE: {"type": ["string", "null"], "pattern": r"\{path\}|^$"},
    Kind.IMAGE: {"type": ["string", "null"]},
    Kind.NAME: {"type": ["string", "null"], "pattern": r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"},
}


def schema() -> dict[str, Any]:
    """The schema as a tree, fit for JSON."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "image-cri-shim.yaml",
        "description": "Configuration of image-cri-shim.",
        **_object(TOP_KEYS),
        "required": ["address"],
    }


def _object(keys: Sequence[Key]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _property(key) for key in keys},
    }


def _property(key: Key) -> dict[str, Any]:
    described: dict[str, Any] = {"description": key.meaning}
    if key.kind is Kind.OLD:
        return {**described, "deprecated": True}
    if key.kind is Kind.MAPPING:
        return {**described, **_object(key.keys), "type": ["object", "null"]}
    if key.kind is Kind.MAPPINGS:
        items = _object(key.keys)
        return {**described, "type": ["array", "null"], "items": items, "maxItems": key.limit}
    if key.kind in {Kind.DOMAINS, Kind.HOSTS, Kind.PATTERNS}:
        item = {"type": ["string", "number", "boolean"], "minLength": 1}
        least = {"minItems": 1} if key.kind is Kind.DOMAINS else {}
        return {
            **described,
            "type": ["array", "null"],
            "items": item,
            "maxItems": key.limit,
            **least,
        }
    if key.choices:
        return {**described, "enum": [*key.choices, None], **_default(key)}
    return {**described, **_default(key), **_SCALARS[key.kind]}


def _default(key: Key) -> dict[str, Any]:
    if key.default is None:
        return {}
    if key.kind is Kind.BOOLEAN:
        return {"default": key.default == "true"}
    if key.kind is Kind.INTEGER:
        return {"default": int(key.default)}
    return {"default": key.default}
