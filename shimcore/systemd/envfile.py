"""Environment files as systemd reads them (systemd.exec(5), EnvironmentFile=; its
parse_env_file_internal), and the words of a variable. Pure.

Flags inside a variable's value are changed in the text; every other byte stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shimcore.errors import ShimError

ERRORS = "surrogateescape"
"""Bytes that are not UTF-8 stay what they are (codecs): in comments systemd takes them."""

_LINE = r"""
    (?: [ \t\r\n]++
    | [#;] {comment}
    | (?P<name>[^\r\n][^=\r\n]*) = [ \t]*+ (?P<value>
        (?: [ \t]*+ (?: "(?:[^"\\]|\\.)*+(?:"|\\?\Z) | '[^']*(?:'|\Z) ) )*+
        (?: [ \t]*+ (?: [^\\ \t\r\n] | \\. | \\\Z ) )*+ )
    | [^\r\n]+ )
"""
_LINES = re.compile(_LINE.format(comment=r"[^\r\n]*+"), re.VERBOSE | re.DOTALL)
# Before systemd 254 a comment that ends in a backslash goes on in the next line.
_OLD_LINES = re.compile(_LINE.format(comment=r"(?:[^\\\r\n]|\\.|\\\Z)*+"), re.VERBOSE | re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Quotes count before the first other character alone; blanks after them are left out.
_PIECE = re.compile(
    r"""
    [ \t]*+ (?: "(?P<double>(?:[^"\\]|\\.)*+)(?:"|\\?\Z) | '(?P<single>[^']*)(?:'|\Z)
    | (?P<plain>.+) )
    """,
    re.VERBOSE | re.DOTALL,
)
_CHARACTER = re.compile(r"\\(?:x[0-9a-fA-F]{2}|[0-3][0-7]{2}|.)|.", re.DOTALL)
_C_ESCAPES = dict(zip("abfnrtvs", "\a\b\f\n\r\t\v ", strict=True))


@dataclass(frozen=True, slots=True)
class Assignment:
    """One variable: its value, and where the value stands in the text, quotes included."""

    name: str
    value: str
    start: int
    end: int


def assignments(text: str, lines: re.Pattern[str] = _LINES) -> Iterator[Assignment]:
    """Every assignment in the text, in its order."""
    for match in lines.finditer(text):
        name = (match["name"] or "").rstrip(" \t")
        if _NAME.fullmatch(name):
            yield Assignment(name, _unquoted(match["value"]), *match.span("value"))


def variables(text: str, lines: re.Pattern[str] = _LINES) -> dict[str, str]:
    """The variables that the text sets; the last assignment of a name counts."""
    return {each.name: each.value for each in assignments(text, lines)}


def words(text: str, *, c_escapes: bool = False) -> list[str]:
    """The words of a variable, their quotes and backslashes taken away.

    `c_escapes`: those of C have their meaning, as in ExecStart= and Environment=
    (systemd.syntax(7), Quoting). A quote that is not closed goes to the end.
    """
    found: list[list[str]] = []
    quote = ""
    is_open = False
    for character in _CHARACTER.findall(text):
        if not quote and character in " \t\r\n":
            is_open = False
            continue
        if not is_open:
            found.append([])
            is_open = True
        if character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            found[-1].append(_unescaped(character, c_escapes=c_escapes))
    return ["".join(each) for each in found]


def flag_place(arguments: Sequence[str], flag: str) -> int | None:
    """Which word is `--flag=value`, or `--flag` with its value behind it; the last one counts."""
    last = len(arguments) - 1
    places = (
        place
        for place in range(last, -1, -1)
        if arguments[place].startswith(f"{flag}=") or (arguments[place] == flag and place < last)
    )
    return next(places, None)


def flag_value(arguments: Sequence[str], flag: str) -> str | None:
    """What `--flag=value` or `--flag value` says, the last one counting."""
    place = flag_place(arguments, flag)
    if place is None:
        return None
    word = arguments[place]
    return arguments[place + 1] if word == flag else word.removeprefix(f"{flag}=")


def flag_in(text: str, variable: str, flag: str) -> str | None:
    """What the variable that the text sets says of the flag; None for nothing."""
    return flag_value(words(variables(text).get(variable, "")), flag)


def with_flag(text: str, flag: str, value: str) -> str:
    """A text of flags with the value of one that is there changed, in quotes or without."""
    return re.sub(_flag_pattern(flag), lambda found: f"{flag}{found['joint']}{value}", text)


def set_flag(text: str, variable: str, flag: str, value: str | None) -> str:
    """The text with the flag changed, added to the variable, or taken out (None).

    A variable that is not there is added at the end. Raises ShimError where the flag cannot
    be changed alone.
    """
    if flag_in(text, variable, flag) == value:
        return text
    before = variables(text)
    new = _edited(text, variable, flag, value)
    after = variables(new)
    others = {name: each for name, each in before.items() if name != variable}
    if (
        {name: each for name, each in after.items() if name != variable} != others
        or flag_in(new, variable, flag) != value
        or _without(after[variable], flag) != _without(before.get(variable, ""), flag)
    ):
        raise ShimError(f"{flag} in {variable} cannot be changed alone; change it by hand")
    if variables(new, _OLD_LINES).get(variable) != after[variable]:
        raise ShimError(
            f"whether {variable} counts differs between versions of systemd: take the backslash "
            "from the end of the comment above it"
        )
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
    elif flag_value(words(last.value), flag) is not None:
        raw = with_flag(raw, flag, value)
    else:
        raw = _appended(raw, f"{flag}={value}")
    return text[: last.start] + raw + text[last.end :]


def _flag_pattern(flag: str) -> str:
    """The flag with its value, which may stand in quotes, and those in quotes again."""
    quoted = r"(?P<quote>(?:\\?[\"'])?)[^\s\"'\\]*(?P=quote)"
    return rf"(?<![\w-]){re.escape(flag)}(?P<joint>=|[ \t]+){quoted}"


def _appended(raw: str, word: str) -> str:
    if len(raw) > 1 and raw[-1] in "\"'" and raw[0] == raw[-1]:
        inside = raw[1:-1]
        return f"{raw[0]}{inside}{' ' if inside.strip() else ''}{word}{raw[-1]}"
    return f"{raw} {word}" if raw else f'"{word}"'


def _without(value: str, flag: str) -> list[str]:
    """The other words."""
    left = words(value)
    while (place := flag_place(left, flag)) is not None:
        del left[place : place + 1 + (left[place] == flag)]
    return left


def _unescaped(character: str, *, c_escapes: bool) -> str:
    """What a character stands for that may have a backslash before it."""
    after = character[1:]
    if not after or not c_escapes or after in "\\\"'":
        return after or character
    if len(after) == 3:
        code = int(after[1:], 16) if after[0] == "x" else int(after, 8)
        return bytes([code]).decode(errors=ERRORS)
    return _C_ESCAPES.get(after, character)  # one that has no meaning stays as it is


def _unquoted(raw: str) -> str:
    pieces = []
    for match in _PIECE.finditer(raw):
        if match["double"] is not None:
            pieces.append(re.sub(r'\\(?:\n|(["\\`$]))', r"\1", match["double"]))
        elif match["single"] is not None:
            pieces.append(match["single"])
        else:
            pieces.append(re.sub(r"\\(?:[\r\n]|(.?))", r"\1", match["plain"]))
    return "".join(pieces)
