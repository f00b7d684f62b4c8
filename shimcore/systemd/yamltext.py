"""Changes single top-level keys in the text of a YAML mapping; every other byte stays. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import yaml

from shimcore.errors import ShimError

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9:/._@+-]*[A-Za-z0-9/._@+-]")


class YamlTextError(ShimError):
    """A text that is no YAML mapping, or in which a key cannot be changed alone."""


def get_keys(text: str, keys: tuple[str, ...]) -> dict[str, str | None]:
    """The scalar values of top-level keys; None for a key that is not there."""
    content = _content(text)
    found: dict[str, str | None] = {}
    for key in keys:
        value = content.get(key)
        found[key] = value if isinstance(value, str) else None
    return found


def set_keys(text: str, values: Mapping[str, str | None]) -> str:
    """The text with top-level keys set to strings; None takes a key out.

    Parsed again, the new text differs in these keys alone; comments stay.
    Raises YamlTextError where that cannot be had.
    """
    for key, value in values.items():
        text = _set(text, key, value)
    return text


def _set(text: str, key: str, value: str | None) -> str:
    before = _content(text)
    if before.get(key) == value:
        return text
    rest = {name: each for name, each in before.items() if name != key}
    for attempt, there in _attempts(text, key, value, present=key in before):
        try:
            if _content(attempt) == rest | there:
                return attempt
        except YamlTextError:
            continue
    raise YamlTextError(f"{key} cannot be changed without changing other keys; change it by hand")


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
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise YamlTextError(" ".join(str(error).split())) from error
    if node is None or isinstance(node, yaml.MappingNode):
        return node
    raise YamlTextError("not a mapping of keys to values")


def _content(text: str) -> dict[str, object]:
    """The mapping with every scalar as its text."""
    node = _node(text)
    if node is None:
        return {}
    try:
        # BaseLoader makes text, lists and mappings, and nothing else.
        content: dict[str, object] = yaml.BaseLoader("").construct_document(node)
    except yaml.YAMLError as error:
        raise YamlTextError(" ".join(str(error).split())) from error
    return content
