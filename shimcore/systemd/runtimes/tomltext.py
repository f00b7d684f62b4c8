"""Changes in the text of a TOML file; comments and every other value stay. Pure."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from shimcore.systemd.edits import SpliceEdit, first_that_reads

# By it an added line is told from the same line of somebody else's.
MARK = "# image-cri-shim"


def string(value: str) -> str:
    """A basic string."""
    return json.dumps(value, ensure_ascii=False)


def set_value(text: str, table: tuple[str, ...], key: str, value: str) -> SpliceEdit | None:
    """The edit after which `key` of `table` is `value`, and nothing else is another.

    None where no edit of the text does it.
    """
    expected = _with(tomllib.loads(text), table, {key: value})
    line = f"{key} = {string(value)} {MARK}"
    edits = (*_replaced(text, key, line), *_added(text, table, line))
    return first_that_reads(text, edits, expected, tomllib.loads)


def add_table(text: str, table: tuple[str, ...], values: Mapping[str, Any]) -> SpliceEdit | None:
    """The edit that adds a table with values at the end; None where the text cannot have it."""
    expected = _with(tomllib.loads(text), table, values)
    edit = SpliceEdit((("", _gap(text) + table_text(table, values, f" {MARK}")),))
    return first_that_reads(text, [edit], expected, tomllib.loads)


def table_text(table: tuple[str, ...], values: Mapping[str, Any], mark: str = "") -> str:
    """A table of its own; `mark` stands after its header."""
    lines = "".join(f"  {key} = {_value(value)}\n" for key, value in values.items())
    return f"[{_name(table)}]{mark}\n{lines}"


def _replaced(text: str, key: str, line: str) -> Iterator[SpliceEdit]:
    """Every line that sets the key, one at a time."""
    pattern = rf"^([ \t]*){re.escape(key)}[ \t]*=[^\n]*$"
    for found in re.finditer(pattern, text, re.MULTILINE):
        before = text[: found.start()]
        header = before.rpartition("[")[2]  # what makes the piece the one that is meant
        old = f"[{header}{found[0]}" if "[" in before else found[0]
        new = old.removesuffix(found[0]) + found[1] + line
        yield SpliceEdit(((old, new),))


def _added(text: str, table: tuple[str, ...], line: str) -> Iterator[SpliceEdit]:
    """Below the table's header, or with a header of its own at the end."""
    for found in re.finditer(r"^([ \t]*)\[[^\[\]\n]*\][^\n]*\n", text, re.MULTILINE):
        yield SpliceEdit(((found[0], f"{found[0]}{found[1]}  {line}\n"),))
    yield SpliceEdit((("", f"{_gap(text)}[{_name(table)}]\n  {line}\n"),))


def _with(tree: Mapping[str, Any], table: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """The tree with the values in its table."""
    result: dict[str, Any] = copy.deepcopy(dict(tree))
    inner = result
    for name in table:
        below = inner.setdefault(name, {})
        if not isinstance(below, dict):
            return None
        inner = below
    inner.update(values)
    return result


def _gap(text: str) -> str:
    return "" if not text else "\n" if text.endswith("\n") else "\n\n"


def _name(table: tuple[str, ...]) -> str:
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(part if bare.fullmatch(part) else string(part) for part in table)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return string(value)
    return "[" + ", ".join(_value(each) for each in value) + "]"
