"""YAML text → a tree of text, lists and mappings; nothing in it has a type of its own yet.

Scalars stay as written (`0123`, `12:34`, `yes`); only a plain null or nothing is None.
What a document may cost is bounded: its length, its depth, and what its aliases make of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from shimcore.config.faults import Faults
from shimcore.config.marks import Mark, Marks, mark_of
from shimcore.errors import ConfigFault
from shimcore.yamlreading import (
    DEPTH_LIMIT,
    VALUES_LIMIT,
    TextLoader,
    YamlError,
    attempt,
    is_null,
    is_plain,
)

Tree = str | None | list["Tree"] | dict[str, "Tree"]

DOCUMENT_LIMIT = 512 * 1024
"""Longest document, in characters; the reader takes about a second for so many."""

_STANDARD_TAG = "tag:yaml.org,2002:"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_document(text: str) -> tuple[Tree, list[ConfigFault]]:
    """The tree and its faults; text that is not YAML is one fault with line and column."""
    tree, faults, _ = read_marked_document(text)
    return tree, faults


def read_marked_document(text: str) -> tuple[Tree, list[ConfigFault], Marks]:
    """The tree, its faults, and by key path where each value stands."""
    if len(text) > DOCUMENT_LIMIT:
        return None, [ConfigFault("", f"longer than {DOCUMENT_LIMIT // 1024} KiB")], {}
    try:
        node = _compose(text)
        if node is None:
            return None, [], {}
        _measure(node, {})
    except YamlError as error:
        return None, [ConfigFault("", str(error))], {}
    reading = _Reading(text)
    return reading.tree(node, ""), list(reading.faults), reading.marks


def mapping_of(tree: Tree) -> dict[str, Tree]:
    """The tree if it is a mapping, else an empty one."""
    return tree if isinstance(tree, dict) else {}


def list_of(tree: Tree) -> list[Tree]:
    """The tree if it is a list, else an empty one."""
    return tree if isinstance(tree, list) else []


def joined(path: str, key: str) -> str:
    """The dotted path of a key; what is not a plain word is not repeated (it may be a secret)."""
    shown = key if _PLAIN_KEY.fullmatch(key) else "(a key that is not a plain word)"
    return f"{path}.{shown}" if path else shown


def _compose(text: str) -> yaml.Node | None:
    """The one document that says something, as far as there is one. Raises YamlError."""
    # A template may begin or end with `---`.
    return attempt(
        lambda: _only([node for node in yaml.compose_all(text, TextLoader) if _says(node)])
    )


def _only(documents: list[yaml.Node]) -> yaml.Node | None:
    if len(documents) > 1:
        first, second, *_ = (node.start_mark for node in documents)
        raise yaml.composer.ComposerError(
            "expected a single document in the stream", first, "but found another document", second
        )
    return documents[0] if documents else None


def _says(document: yaml.Node) -> bool:
    return not (is_plain(document) and document.value == "")


def _measure(node: yaml.Node, done: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node is, and how deep, as if each alias in it were written out.

    Those that are `done` are known, by their id. Raises YamlError.
    """
    if id(node) in done:
        return done[id(node)]
    # Of an anchor inside itself, which is a fault of its own.
    done[id(node)] = values, depth = 1, 1
    line = node.start_mark.line + 1
    for child in _children(node):
        more, below = _measure(child, done)
        values, depth = values + more, max(depth, below + 1)
        if values > VALUES_LIMIT:
            raise YamlError(
                f"line {line}: more than {VALUES_LIMIT} values, with aliases written out"
            )
    if depth > DEPTH_LIMIT:
        raise YamlError(f"line {line}: nested too deeply, with aliases written out")
    done[id(node)] = values, depth
    return values, depth


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


class _Reading:
    """One walk over the nodes; a node that an alias repeats is read once."""

    def __init__(self, text: str) -> None:
        self.faults = Faults()
        self.marks: dict[str, Mark] = {}
        self._text = text
        self._done: dict[int, Tree] = {}
        self._open: set[int] = set()

    def tree(self, node: yaml.Node, path: str) -> Tree:
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open:
            self.faults.note(path, "an anchor that contains itself")
            return None
        self._open.add(id(node))
        value = self._value(node, path)
        self._open.discard(id(node))
        self._done[id(node)] = value
        return value

    def _value(self, node: yaml.Node, path: str) -> Tree:
        if not node.tag.startswith(_STANDARD_TAG):
            self.faults.note(path, "YAML tags of your own are not known here")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: str) -> Tree:
        self.marks.setdefault(path, mark_of(None, node, self._text))
        return self.tree(node, path)

    def _scalar(self, node: yaml.Node, path: str) -> Tree:
        text = str(node.value)
        if is_null(node):
            return None
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.faults.note(path, "half a character (a surrogate) is not text")
            return None
        return text

    def _mapping(self, node: yaml.MappingNode, path: str) -> Tree:
        own: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.note(path, "a key has to be text")
                continue
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key == "<<" and is_plain(key_node):
                self._merge(merged, self.tree(value_node, path), path)
            elif key in own:
                reason = f"given twice, on lines {lines[key]} and {line}"
                self.faults.note(joined(path, key), reason)
            else:
                place = joined(path, key)
                self.marks.setdefault(place, mark_of(key_node, value_node, self._text))
                own[key] = self.tree(value_node, place)
                lines[key] = line
        return {**merged, **own}

    def _merge(self, merged: dict[str, Tree], value: Tree, path: str) -> None:
        """`<<: *anchor` or a list of them; the first that has a key wins."""
        sources = value if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                self.faults.note(path, "<< merges mappings only")
                return
            for key, item in source.items():
                merged.setdefault(key, item)
