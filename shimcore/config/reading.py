"""Tree → typed values by the table of keys; every fault is noted with its path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from shimcore.config.document import Tree, joined, mapping_of
from shimcore.config.durations import format_duration, parse_duration
from shimcore.config.faults import Faults
from shimcore.config.keys import Key, Kind
from shimcore.config.values import ITEMS, SCALARS, choice

TEXTS_LIMIT = 64 * 1024
"""Most characters of one list of patterns; making so many ready takes half a second at worst."""

_TEXT = "text expected"
_VARIABLE = re.compile(r"\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)")

Values = dict[str, Any]
"""Values by key name, each typed as its key's kind says; what was refused has its default."""


class Reader:
    """Reads mappings by their keys and collects what is wrong.

    A duration out of bounds is a fault, or the bound, with a notice, where the reader `clamps`.
    """

    def __init__(self, *, clamps: bool = False) -> None:
        self.faults = Faults()
        self.notices: list[str] = []
        self.old_keys: list[str] = []
        self.ignored: list[str] = []
        """Paths of what is given and not its writer's to say."""
        self.clamped: dict[str, str] = {}
        """By key path, the bound or the default in place of what is given."""
        self._clamps = clamps

    def mapping(self, tree: Tree, keys: Sequence[Key], path: str) -> Values:
        """A value for every key; those absent, null or refused have their default."""
        given: dict[str, Tree] = {}
        if isinstance(tree, dict):
            given = tree
        elif tree is not None:
            self.faults.note(path, f"keys and values expected, not {_form(tree)}")
        known = {key.name for key in keys}
        for name in given:
            if name not in known:
                self._unknown(name, known, path)
        return {key.name: self._value(key, given.get(key.name), path) for key in keys}

    def _unknown(self, name: str, known: set[str], path: str) -> None:
        if self.faults.full:
            self.faults.note("", "")  # it is counted only, and looking for a near key takes time
            return
        from difflib import get_close_matches  # noqa: PLC0415 - for a fault only

        by_lower = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower()[:64], by_lower, n=1, cutoff=0.6)
        hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
        self.faults.note(joined(path, name), f"unknown key{hint}")

    def _value(self, key: Key, tree: Tree, parent: str) -> object:
        path = joined(parent, key.name)
        if key.kind in {Kind.OLD, Kind.LOCAL}:
            self._note(key, tree, path)
            return None
        if key.kind is Kind.LOGIN and isinstance(tree, dict):
            return self.mapping(tree, key.keys, path)
        if key.kind is Kind.MAPPING:
            return self.mapping(tree, key.keys, path)
        if key.kind is Kind.MAPPINGS:
            return self._mappings(key, tree, path)
        if key.kind in ITEMS:
            return self._items(key, tree, path)
        return self._scalar(key, tree, path)

    def _note(self, key: Key, tree: Tree, path: str) -> None:
        """A key that does not count."""
        if key.kind is Kind.LOCAL:
            self._ignore(tree, path)
        elif tree is not None:
            self.old_keys.append(key.name)

    def _ignore(self, tree: Tree, path: str) -> None:
        if isinstance(tree, dict):
            for name, value in tree.items():
                self._ignore(value, joined(path, name))
        elif not is_empty(tree):
            self.ignored.append(path)

    def _mappings(self, key: Key, tree: Tree, path: str) -> list[Values]:
        items = self._list(key, tree, path)
        return [self.mapping(item, key.keys, f"{path}[{i}]") for i, item in enumerate(items)]

    def _items(self, key: Key, tree: Tree, path: str) -> tuple[str, ...] | None:
        """The texts of a list; None when the key is absent."""
        if tree is None:
            return None
        texts = []
        for index, item in enumerate(self._list(key, tree, path)):
            if not isinstance(item, str) or not item:
                self.faults.note(f"{path}[{index}]", f"text expected, not {_form(item)}")
                continue
            try:
                texts.append(ITEMS[key.kind](item))
            except ValueError as error:
                self.faults.note(f"{path}[{index}]", str(error))
        if sum(map(len, texts)) > TEXTS_LIMIT:
            self.faults.note(path, f"more than {TEXTS_LIMIT // 1024} KiB of patterns")
            return ()
        return tuple(texts)

    def _list(self, key: Key, tree: Tree, path: str) -> list[Tree]:
        if tree is None:
            return []
        if isinstance(tree, list):
            if len(tree) <= key.limit:
                return tree
            self.faults.note(path, f"at most {key.limit} of them, not {len(tree)}")
            return []
        self.faults.note(path, f"a list expected, not {_form(tree)}")
        return []

    def _scalar(self, key: Key, tree: Tree, path: str) -> object:
        default = None if key.default is None else _read(key, key.default)
        if isinstance(tree, list | dict):
            form = "user:password expected, as one text" if key.kind is Kind.SECRET else _TEXT
            self.faults.note(path, f"{form}, not {_form(tree)}")
            return default
        # Empty text is the default too: the Go shim writes `cri: ""` for what is not set.
        if tree is None or not tree.strip():
            return default
        try:
            value = _read(key, tree if key.kind is Kind.SECRET else tree.strip())
        except ValueError as error:
            self.faults.note(path, f"{error}{variable_hint(tree)}")
            return default
        if isinstance(value, float) and value:
            return self._within(key, value, path)
        if value != 0 or isinstance(value, bool) or key.zero == "value":
            return value
        if key.zero == "fault":
            self.faults.note(path, "has to be more than 0")
        return default

    def _within(self, key: Key, seconds: float, path: str) -> float:
        """A duration within the key's bounds; for one below 0 its default."""
        least, most, given = key.least or "0s", key.most, format_duration(seconds)
        if seconds < 0:
            clamps, used = key.negative == "default", key.default or "0"
            fault, notice = "a duration cannot be negative", f"{given} is below 0"
        elif seconds < parse_duration(least) or (most and seconds > parse_duration(most)):
            clamps, used = self._clamps, least if seconds < parse_duration(least) else most
            limits = f"between {least} and {most}"
            fault, notice = f"{limits}, not {given}", f"{given} is not {limits}"
        else:
            return seconds
        if clamps:
            self.notices.append(f"{path}: {notice}; {used} is used")
            self.clamped[path] = used
        else:
            self.faults.note(path, fault)
        return parse_duration(used)


def variable_hint(text: str) -> str:
    """What to say beside a fault of a text in which a variable seems to stand."""
    return "; variables such as ${NAME} are not expanded" if _VARIABLE.search(text) else ""


def is_empty(tree: Tree) -> bool:
    """Whether nothing is given: null, an empty text, list or mapping, as in the Go shim."""
    return not tree.strip() if isinstance(tree, str) else not tree


def texts(tree: Tree) -> dict[str, str]:
    """The texts at the top of a document, without the blanks around; none where nothing is."""
    given = mapping_of(tree).items()
    return {key: each.strip() for key, each in given if isinstance(each, str) and each.strip()}


def _read(key: Key, text: str) -> object:
    return choice(key.choices, text) if key.choices else SCALARS[key.kind](text)


def _form(tree: Tree) -> str:
    if isinstance(tree, dict):
        return "keys and values"
    if isinstance(tree, list):
        return "a list"
    return "text" if tree else "nothing"
