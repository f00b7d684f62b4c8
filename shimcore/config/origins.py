"""Layers of a configuration, merged; of each value, the layer that it came from.

A layer is a tree in the file's own format, and says of each key path in it who gave it.
What is empty in a layer (`""`, null, an empty list) is not given, as in the Go shim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shimcore.config.document import Tree, joined
from shimcore.config.masking import masked
from shimcore.config.model import Config
from shimcore.config.values import Address, address

DEFAULT = "default"
"""The origin of a value that nobody has given."""

_LOGIN_KEYS = ("auth", "passwordFile", "dockerConfig")


@dataclass(frozen=True, slots=True)
class Layer:
    """A configuration as given, before it is read: tree, and origin by key path."""

    tree: dict[str, Tree] = field(repr=False)  # it has passwords
    origins: Mapping[str, str]
    notices: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Value:
    """One value in force, as text with no secret in it, and where it came from."""

    key: str
    text: str
    origin: str


def layer_of(tree: Tree, origin: str) -> Layer:
    """A layer that comes from one place; a tree that is no mapping is an empty one."""
    given = tree if isinstance(tree, dict) else {}
    return Layer(given, dict.fromkeys(_leaves(given, ""), origin))


def merged(lower: Layer, upper: Layer, *, keep_registries: bool) -> Layer:
    """`upper` over `lower`.

    A list of registries in `upper` decides which there are, unless `keep_registries`; an
    entry of it for a registry that `lower` has, too, only changes what it gives. Where
    `upper` names another registry at a place, login and options of the one before do not
    go to it: a login is for the registry that it was written for.
    """
    return _Merging(lower, upper).result(keep_registries=keep_registries)


class _Merging:
    def __init__(self, lower: Layer, upper: Layer) -> None:
        self._lower, self._upper = lower, upper
        self._tree: dict[str, Tree] = {}
        self._origins: dict[str, str] = {}
        self._notices = [*lower.notices, *upper.notices]

    def result(self, *, keep_registries: bool) -> Layer:
        lower, upper = self._lower.tree, self._upper.tree
        dropped = self._dropped_from_hub()
        for name, tree in lower.items():
            if name != "registries" and name not in dropped:
                self._put(name, tree, self._lower, name)
        for key in dropped:
            if "." in key:
                self._drop(key)
        for name, tree in upper.items():
            if name != "registries" and not _is_empty(tree):
                self._merge(name, tree)
        registries = self._registries(keep=keep_registries)
        if registries:
            self._tree["registries"] = registries
        elif "registries" in lower:
            self._tree["registries"] = lower["registries"]
        return Layer(self._tree, self._origins, tuple(self._notices))

    def _put(self, name: str, tree: Tree, source: Layer, path: str) -> None:
        self._tree[name] = dict(tree) if isinstance(tree, dict) else tree
        self._take_origins(source, path, path)

    def _merge(self, name: str, tree: Tree) -> None:
        below = self._tree.get(name)
        if isinstance(tree, dict) and isinstance(below, dict):
            for key, value in tree.items():
                if not _is_empty(value):
                    below[key] = value
                    self._take_origins(self._upper, joined(name, key), joined(name, key))
        else:
            self._put(name, tree, self._upper, name)

    def _dropped_from_hub(self) -> set[str]:
        """Key paths of the lower layer that belong to its hub's login, or to its hub alone."""
        lower, upper = self._lower.tree, self._upper.tree
        below, above = lower.get("address"), upper.get("address")
        has_login = not _is_empty(upper.get("auth"))
        if _is_empty(below) or _is_empty(above) or _same(below, above):
            return {f"hub.{key}" for key in _LOGIN_KEYS} if has_login else set()
        lost = [name for name in ("auth", "hub") if not _is_empty(lower.get(name))]
        if lost and not (has_login and lost == ["auth"]):
            origin = self._upper.origins.get("address", "the cluster")
            names = " and ".join(lost)
            self._notices.append(
                f"{origin} names another hub: {names} of the one before do not count for it"
            )
        return {"auth", "hub"}

    def _drop(self, path: str) -> None:
        name, _, key = path.partition(".")
        below = self._tree.get(name)
        if isinstance(below, dict):
            below.pop(key, None)
        self._origins.pop(path, None)

    def _registries(self, *, keep: bool) -> list[Tree]:
        """The merged entries; the upper layer's come first, with what it leaves open below."""
        below = _entries(self._lower)
        merged_entries: list[Tree] = []
        used: set[int] = set()
        for number, entry in _entries(self._upper):
            match = next((n for n, one in below if n not in used and _same_entry(one, entry)), None)
            at = f"registries[{len(merged_entries)}]"
            if match is None:
                merged_entries.append(entry)
            else:
                used.add(match)
                merged_entries.append(self._entry(dict(below)[match], entry, match, at))
            self._take_origins(self._upper, f"registries[{number}]", at)
        if merged_entries and not keep:
            return merged_entries
        for number, entry in below:
            if number not in used:
                self._take_origins(
                    self._lower, f"registries[{number}]", f"registries[{len(merged_entries)}]"
                )
                merged_entries.append(entry)
        return merged_entries

    def _entry(self, below: Tree, above: Tree, number: int, at: str) -> Tree:
        if not isinstance(below, dict) or not isinstance(above, dict):
            return above
        given = {key: tree for key, tree in above.items() if not _is_empty(tree)}
        hidden = set(_LOGIN_KEYS) if "auth" in given else set()
        kept = {key: tree for key, tree in below.items() if key not in hidden}
        for key in kept:
            self._take_origins(self._lower, f"registries[{number}].{key}", f"{at}.{key}")
        return {**kept, **given}

    def _take_origins(self, source: Layer, path: str, to: str) -> None:
        for key, origin in source.origins.items():
            rest = key[len(path) :]
            if key.startswith(path) and (not rest or rest[0] in ".["):
                self._origins[to + rest] = origin


def sources(config: Config) -> tuple[str, ...]:
    """The places that the configuration in force comes from, the file first."""
    return tuple(dict.fromkeys((config.source, *config.origins.values())))


def values(config: Config) -> list[Value]:
    """Every value in force, in the order of `masked`; passwords are `***`."""
    found: list[Value] = []
    others = [registry for registry in config.registries if not registry.is_hub]
    tree = masked(config)
    for name, value in tree.items():
        if name == "registries":
            for index, (registry, entry) in enumerate(zip(others, value, strict=True)):
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


def _leaves(tree: Tree, path: str) -> list[str]:
    """Key paths of all that is given; a list of texts is one value, one of mappings is not."""
    if isinstance(tree, dict):
        return [leaf for key, item in tree.items() for leaf in _leaves(item, joined(path, key))]
    if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        return [
            leaf for index, item in enumerate(tree) for leaf in _leaves(item, f"{path}[{index}]")
        ]
    return [] if _is_empty(tree) else [path]


def _is_empty(tree: Tree) -> bool:
    return not tree.strip() if isinstance(tree, str) else not tree


def _entries(layer: Layer) -> list[tuple[int, Tree]]:
    """The registries of a layer that have an address or are faulty, by their number."""
    listed = layer.tree.get("registries")
    entries = list(enumerate(listed)) if isinstance(listed, list) else []
    return [
        (number, entry)
        for number, entry in entries
        if not isinstance(entry, dict) or not _is_empty(entry.get("address"))
    ]


def _same_entry(lower: Tree, upper: Tree) -> bool:
    if not isinstance(lower, dict) or not isinstance(upper, dict):
        return False
    return _same(lower.get("address"), upper.get("address"))


def _same(lower: Tree, upper: Tree) -> bool:
    """Whether both are one registry, and the upper one is no less protected on the way."""
    below, above = _address(lower), _address(upper)
    if below is None or above is None:
        return lower == upper
    downgraded = below.scheme == "https" and above.scheme == "http"
    return below.host == above.host and not downgraded


def _address(tree: Tree) -> Address | None:
    try:
        return address(tree.strip()) if isinstance(tree, str) else None
    except ValueError:
        return None
