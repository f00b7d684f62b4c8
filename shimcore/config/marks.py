"""Where each key of a document stands, and what of its text a fault may show.

Nothing but a key that is a plain word is shown as it stands, and a value only where the fault
repeats it already: the rest of a line may be a password, or the comment behind one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import yaml

from shimcore.errors import ConfigFault, FaultPlace

# What goes on after a plain scalar, and was no comment to whoever wrote `pa #ss`.
_CUT = re.compile(r"[ \t]+#[^\s#]")
_PARENT = re.compile(r"(?:\.[^.\[\]]+|\[\d+\])$")
_SHOWN_LIMIT = 60
"""The longest value that a reason repeats whole."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The key of a value (none for an item of a list), and the value; counted from 0."""

    key: str
    key_line: int
    key_column: int
    value: str | None
    """The text of a scalar in one line, else None."""
    line: int
    column: int
    is_cut: bool = False
    """Whether a comment follows that looks like the rest of the value."""


Marks = Mapping[str, Mark]


def mark_of(key: yaml.Node | None, node: yaml.Node, text: str) -> Mark:
    """The mark of a value in the document `text`, below `key` if it has one."""
    start, end = node.start_mark, node.end_mark
    is_scalar = isinstance(node, yaml.ScalarNode) and start.line == end.line
    is_plain = isinstance(node, yaml.ScalarNode) and is_scalar and node.style is None
    return Mark(
        key="" if key is None else str(key.value),
        key_line=(key or node).start_mark.line,
        key_column=(key or node).start_mark.column,
        value=text[start.index : end.index] if is_scalar else None,
        line=start.line,
        column=start.column,
        is_cut=is_plain and _CUT.match(text, end.index) is not None,
    )


def located(fault: ConfigFault, marks: Marks) -> ConfigFault:
    """The fault with its place: its own key's, else that of the nearest key around it."""
    path = fault.path
    while path and path not in marks:
        path = _PARENT.sub("", path) if _PARENT.search(path) else ""
    if not path or fault.place is not None:
        return fault
    mark = marks[path]
    repeated = fault.reason if path == fault.path else ""
    return replace(fault, place=_place(mark, path, repeated))


def _place(mark: Mark, path: str, repeated: str) -> FaultPlace:
    key = mark.key if path.endswith(mark.key) else ""  # one that is no plain word is not shown
    if _is_repeated(mark.value, repeated) and mark.line == mark.key_line and mark.value:
        before = f"{key}: " if key else "- "
        end = len(before) + len(mark.value)
        return FaultPlace(mark.line + 1, mark.column + 1, before + mark.value, (len(before), end))
    shown = f"{key}:" if key else "-"
    return FaultPlace(mark.key_line + 1, mark.key_column + 1, shown, (0, max(len(key), 1)))


def _is_repeated(value: str | None, reason: str) -> bool:
    if value is None or not value.isprintable() or len(value) > _SHOWN_LIMIT:
        return False
    return repr(value.strip("'\"")) in reason
