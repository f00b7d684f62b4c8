"""Changes single top-level keys in the text of a YAML mapping; every other byte stays. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice

import yaml

from shimcore.yamlreading import TextLoader, YamlError, attempt, is_null

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9:/._@+-]*[A-Za-z0-9/._@+-]")


def get_keys(text: str, keys: tuple[str, ...]) -> dict[str, str | None]:
    """The scalar values of top-level keys; None for a key that is not there, or null."""
    node = _node(text)
    pairs = [] if node is None else node.value
    given = {
        name.value: value.value
        for name, value in pairs
        if isinstance(value, yaml.ScalarNode) and not is_null(value)
    }
    return {key: given.get(key) for key in keys}


def set_keys(text: str, values: Mapping[str, str | None]) -> str:
    """The text with top-level keys set to strings; None takes a key out.

    Parsed again, the new text differs in these keys alone; comments stay.
    Raises YamlError where that cannot be had.
    """
    end = _end(text)
    text, later = text[:end], text[end:]
    for key, value in values.items():
        text = _set(text, key, value)
    return text + later


def _set(text: str, key: str, value: str | None) -> str:
    before = _content(text)
    if before.get(key) == value:
        return text
    rest = {name: each for name, each in before.items() if name != key}
    for tried, there in _attempts(text, key, value, present=key in before):
        try:
            if _content(tried) == rest | there:
                return tried
        except YamlError:
            continue
    raise YamlError(f"{key} cannot be changed without changing other keys; change it by hand")


def _attempts(
    text: str, key: str, value: str | None, *, present: bool
) -> Iterator[tuple[str, dict[str, object]]]:
    """Texts to try, and what each must have at `key`."""
    if value is None:
        yield _without_line(text, key), {}
        # Where the line cannot go: empty is the default of the keys that are changed here.
        yield _with_value(text, key, ""), {key: ""}
    elif present:
        yield _with_value(text, key, value), {key: value}
    else:
        yield _at_end(text, f"{key}: {scalar(value)}"), {key: value}
        yield _at_start(text, key, value), {key: value}


def _at_end(text: str, line: str) -> str:
    newline = _newline(text)
    indent = _indent(text)
    joint = "" if not text or text.endswith(("\n", "\r")) else newline
    return f"{text}{joint}{indent}{line}{newline}"


def _at_start(text: str, key: str, value: str) -> str:
    node = _node(text)
    line = f"{key}: {scalar(value)}"
    if node is None:
        return line + _newline(text) + text
    if node.flow_style:
        pair = f"{json.dumps(key)}: {json.dumps(value)}{', ' if node.value else ''}"
        place = text.index("{", node.start_mark.index) + 1
        return text[:place] + pair + text[place:]
    place = node.start_mark.index
    return f"{text[:place]}{line}{_newline(text)}{_indent(text)}{text[place:]}"


def _with_value(text: str, key: str, value: str) -> str:
    node = _node(text)
    pairs = [] if node is None else node.value
    for name, old in reversed(pairs):
        if name.value == key:
            start, end = old.start_mark.index, old.end_mark.index
            text = text[:start] + _written(text, old, value) + text[end:]
    return text


def _written(text: str, old: yaml.Node, value: str) -> str:
    """The value as it is written in the place of `old`, in the same kind of quotes."""
    style = getattr(old, "style", None)
    if style == '"':
        return json.dumps(value, ensure_ascii=False)
    if style == "'" and "'" not in value:
        return f"'{value}'"
    if style in ("|", ">"):
        return scalar(value) + _newline(text)
    return f" {scalar(value)}" if old.start_mark.index == old.end_mark.index else scalar(value)


def _without_line(text: str, key: str) -> str:
    pattern = rf"^[ \t]*(['\"]?){re.escape(key)}\1[ \t]*:[^\r\n]*(\r\n|\r|\n|\Z)"
    return re.sub(pattern, "", text, flags=re.MULTILINE)


def scalar(value: str) -> str:
    """The value as a YAML scalar, quoted where it has to be."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _indent(text: str) -> str:
    node = _node(text)
    return "" if node is None else " " * node.start_mark.column


def _node(text: str) -> yaml.MappingNode | None:
    """The first document, the only one that a Go program reads; None where nothing is in it."""
    node = attempt(lambda: next(yaml.compose_all(text, TextLoader), None))
    if node is None or is_null(node):
        return None
    if isinstance(node, yaml.MappingNode):
        return node
    raise YamlError("not a mapping of keys to values")


def _end(text: str) -> int:
    """Where the first document ends."""
    events = yaml.parse(text, TextLoader)
    marks = (each.start_mark for each in events if isinstance(each, yaml.DocumentStartEvent))
    second = attempt(lambda: next(islice(marks, 1, None), None))
    return second.index if second else len(text)


def _content(text: str) -> dict[str, object]:
    """The mapping with every scalar as its text."""
    node = _node(text)
    if node is None:
        return {}
    # BaseLoader makes text, lists and mappings, and nothing else.
    content: dict[str, object] = attempt(lambda: yaml.BaseLoader("").construct_document(node))
    return content
