"""Environment files as systemd reads them (systemd.exec(5), EnvironmentFile=). Pure.

Flags inside a variable's value are changed in the text; every other byte stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shimcore.errors import ShimError

_ASSIGNMENT = re.compile(
    r"""
    ^[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
    (?P<value>(?: "(?:[^"\\]|\\.)*" | '[^']*' | \\\r?\n | \\. | [^"'\\\r\n] )*)
    """,
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"^[ \t]*[#;](?:[^\\\r\n]|\\\r?\n|\\)*", re.MULTILINE)
_PIECE = re.compile(
    r"""
    "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>[^']*)' | (?P<joint>\\\r?\n)
    | \\(?P<escaped>.) | (?P<plain>[^"'\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One variable: its value, and where the value stands in the text, quotes included."""

    name: str
    value: str
    start: int
    end: int


def assignments(text: str) -> Iterator[Assignment]:
    """Every assignment in the text, in its order."""
    comments = [match.span() for match in _COMMENT.finditer(text)]
    for match in _ASSIGNMENT.finditer(text):
        if any(start <= match.start("name") < end for start, end in comments):
            continue
        raw = match["value"].rstrip(" \t")
        start = match.start("value")
        yield Assignment(match["name"], _unquoted(raw), start, start + len(raw))


def variables(text: str) -> dict[str, str]:
    """The variables that the text sets; the last assignment of a name counts."""
    return {each.name: each.value for each in assignments(text)}


def flag_value(arguments: list[str], flag: str) -> str | None:
    """What `--flag=value` or `--flag value` says, the last one counting."""
    found = None
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif word.startswith(f"{flag}="):
            found = word.removeprefix(f"{flag}=")
    return found


def with_flag(text: str, flag: str, value: str) -> str:
    """A text of flags with the value of one that is there changed, in quotes or without."""
    pattern = _flag_pattern(flag, quote="(?P<quote>[\"']?)", end="(?P=quote)")
    return re.sub(pattern, lambda found: f"{flag}{found['joint']}{value}", text)


def set_flag(text: str, variable: str, flag: str, value: str | None) -> str:
    """The text with the flag changed, added to the variable, or taken out (None).

    A variable that is not there is added at the end. Raises ShimError where the flag cannot
    be changed alone.
    """
    before = variables(text)
    if flag_value(before.get(variable, "").split(), flag) == value:
        return text
    new = _edited(text, variable, flag, value)
    after = variables(new)
    others = {name: each for name, each in before.items() if name != variable}
    if (
        {name: each for name, each in after.items() if name != variable} != others
        or flag_value(after[variable].split(), flag) != value
        or _without(after[variable], flag) != _without(before.get(variable, ""), flag)
    ):
        raise ShimError(f"{flag} in {variable} cannot be changed alone; change it by hand")
    return new


def _edited(text: str, variable: str, flag: str, value: str | None) -> str:
    mine = [each for each in assignments(text) if each.name == variable]
    if not mine:
        joint = "" if not text or text.endswith("\n") else "\n"
        return f'{text}{joint}{variable}="{flag}={value}"\n'
    last = mine[-1]
    raw = text[last.start : last.end]
    if value is None:
        raw = re.sub(rf"[ \t]*{_flag_pattern(flag)}", "", raw)
    elif flag_value(last.value.split(), flag) is not None:
        raw = with_flag(raw, flag, value)
    else:
        raw = _appended(raw, f"{flag}={value}")
    return text[: last.start] + raw + text[last.end :]


def _flag_pattern(flag: str, quote: str = "", end: str = "") -> str:
    return rf"(?<![\w-]){re.escape(flag)}(?P<joint>=|[ \t]+){quote}[^\s\"'\\]*{end}"


def _appended(raw: str, words: str) -> str:
    if len(raw) > 1 and raw[-1] in "\"'" and raw[0] == raw[-1]:
        inside = raw[1:-1]
        return f"{raw[0]}{inside}{' ' if inside.strip() else ''}{words}{raw[-1]}"
    return f"{raw} {words}" if raw else f'"{words}"'


def _without(value: str, flag: str) -> list[str]:
    return re.sub(_flag_pattern(flag), "", value).split()


def _unquoted(raw: str) -> str:
    pieces = []
    for match in _PIECE.finditer(raw):
        if match["double"] is not None:
            pieces.append(re.sub(r'\\(["\\`$])|\\\r?\n', r"\1", match["double"]))
        elif match["single"] is not None:
            pieces.append(match["single"])
        elif match["joint"] is None:
            pieces.append(match["escaped"] or match["plain"])
    return "".join(pieces)
