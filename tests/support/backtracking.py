"""How many steps a pattern takes on a text, as a backtracking engine takes them: no clock in it.

It works on what `re` parses; optimisations of the engine are left out, which change no order of
growth. Texts are made of a pattern's own characters, so that repetitions overlap.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

Item = tuple[Any, Any]
"""An operation's name, as `re._constants` has it, and its argument."""

# Private, and the same from Python 3.11 on.
_parser: Any = importlib.import_module("re._parser")

LIMIT = 200_000
"""Steps after which a pattern is taken to go on for ever."""

_CHARACTERS = "abfzAGZ019./:-_ @\"'\\=,#\t\n\r!?*[]{}()<>$%&+~|;^`\u00e9\0"
_SINGLE = {"LITERAL", "NOT_LITERAL", "IN", "ANY"}
_CATEGORIES = {"SPACE": re.compile(r"\s"), "DIGIT": re.compile(r"\d"), "WORD": re.compile(r"\w")}
_LONGEST_REPEAT = 60


class _TooManyError(Exception):
    """LIMIT is reached."""


class Pattern:
    """A pattern as a tree."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        text, self.flags = pattern.pattern, pattern.flags
        if isinstance(text, bytes):
            text, self.flags = text.decode("latin-1"), pattern.flags | re.ASCII
        self.items: list[Item] = list(_parser.parse(text, self.flags))

    def growth(self, *, searched: bool, length: int = 12) -> tuple[float, str]:
        """How many times the steps are where as much is added twice, and how the worst text begins.

        2 where they grow as the text, 4 where they grow as its square.
        """
        found = (0.0, "")
        for start, part in self._texts():
            for end in ("\0", "", " "):
                one, two, four = (
                    self.steps(start + part * times + end, searched=searched)
                    for times in (length, 2 * length, 4 * length)
                )
                if four == math.inf:
                    return math.inf, start + part * 3
                if two - one > length:
                    found = max(found, ((four - two) / (two - one), start + part * 3))
        return found

    def steps(self, text: str, *, searched: bool) -> float:
        """Those of all ways from the beginning, or of all that is found from any place on."""
        run = _Run(text, self.flags)
        try:
            at = 0
            while searched and at <= len(text):
                at = max(at + 1, next(run.ends(self.items, at), 0))
            if not searched:
                list(run.ends(self.items, 0))  # as for a text of which all has to match
        except _TooManyError:
            return math.inf
        return run.count

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Beginnings, and what may be repeated after them."""
        before = list(self._before_repeats(self.items, ""))
        starts = dict.fromkeys(["", *(start for start, _ in before)])
        kinds = {
            tuple(_holds(item, one, self.flags) for item in _singles(self.items)): one
            for one in reversed(_CHARACTERS)
        }
        whole = self._sample(self.items)
        parts = [*kinds.values(), *starts, whole]
        parts += [part for start, body in before for part in (body, start + body)]
        for start in starts:
            for part in dict.fromkeys(parts):
                if part:
                    yield start, part

    def _before_repeats(self, items: Sequence[Item], before: str) -> Iterator[tuple[str, str]]:
        """A text that leads to each long repetition, and one for its body."""
        for index, (name, argument) in enumerate(items):
            start = before + self._sample(items[:index])
            if str(name).endswith("REPEAT") and argument[1] > _LONGEST_REPEAT:
                yield start, self._sample(argument[2])
            for inner in _inner(name, argument):
                yield from self._before_repeats(inner, start)

    def _sample(self, items: Sequence[Item]) -> str:
        """A text that the items match, assertions aside."""
        out = ""
        for name, argument in items:
            if str(name) == "LITERAL":
                out += chr(argument)
            elif str(name) in _SINGLE:
                found = (c for c in _CHARACTERS if _holds((name, argument), c, self.flags))
                out += next(found, "?")
            elif not str(name).startswith("ASSERT"):
                times = max(argument[0], 1) if str(name).endswith("REPEAT") else 1
                out += times * "".join(map(self._sample, _inner(name, argument)[:1]))
        return out


class _Run:
    def __init__(self, text: str, flags: int) -> None:
        self.count = 0
        self._text = text
        self._flags = flags

    def ends(self, items: Sequence[Item], at: int) -> Iterator[int]:
        """Where the items may end that begin at `at`, in the order in which they are tried."""
        if not items:
            yield at
            return
        for middle in self._one(*items[0], at):
            yield from self.ends(items[1:], middle)

    def _step(self) -> None:
        self.count += 1
        if self.count > LIMIT:
            raise _TooManyError

    def _one(self, name: Any, argument: Any, at: int) -> Iterator[int]:
        self._step()
        operation, text = str(name), self._text
        if operation in _SINGLE:
            if at < len(text) and _holds((name, argument), text[at], self._flags):
                yield at + 1
        elif operation.endswith("REPEAT"):
            found = self._repeated(argument, at, 0, lazy=operation == "MIN_REPEAT")
            yield from [*found][:1] if operation == "POSSESSIVE_REPEAT" else found
        elif operation.startswith("ASSERT"):
            direction, items = argument
            start = at if direction > 0 else at - len(items)
            there = start >= 0 and next(self.ends(list(items), start), None) is not None
            if there == (operation == "ASSERT"):
                yield at
        elif operation == "AT":
            if self._stands(str(argument), at):
                yield at
        else:
            for inner in _inner(name, argument):
                ends = self.ends(inner, at)
                yield from [*ends][:1] if operation == "ATOMIC_GROUP" else ends

    def _repeated(self, argument: Any, at: int, done: int, *, lazy: bool) -> Iterator[int]:
        least, most, items = argument
        self._step()
        if lazy and done >= least:
            yield at
        if done < most:
            for end in self.ends(list(items), at):
                if end > at:
                    yield from self._repeated(argument, end, done + 1, lazy=lazy)
        if not lazy and done >= least:
            yield at

    def _stands(self, place: str, at: int) -> bool:
        if "BOUNDARY" in place:
            sides = [bool(re.match(r"\w", self._text[max(i, 0) : i + 1])) for i in (at - 1, at)]
            return (sides[0] != sides[1]) == (place == "AT_BOUNDARY")
        multiline = self._flags & re.MULTILINE and not place.endswith("STRING")
        if place.startswith("AT_BEGINNING"):
            return at == 0 or bool(multiline and self._text[at - 1] == "\n")
        return at == len(self._text) or bool(multiline and self._text[at] == "\n")


def _inner(name: Any, argument: Any) -> list[list[Item]]:
    """The lists of items inside an operation."""
    operation = str(name)
    if operation == "BRANCH":
        return [list(branch) for branch in argument[1]]
    if operation == "SUBPATTERN":
        return [list(argument[3])]
    if operation.endswith("REPEAT"):
        return [list(argument[2])]
    if operation.startswith("ASSERT"):
        return [list(argument[1])]
    return [list(argument)] if operation == "ATOMIC_GROUP" else []


def _singles(items: Sequence[Item]) -> Iterator[Item]:
    for name, argument in items:
        if str(name) in _SINGLE:
            yield name, argument
        for inner in _inner(name, argument):
            yield from _singles(inner)


def _holds(item: Item, character: str, flags: int) -> bool:
    """Whether an operation for one character takes it."""
    operation, argument = str(item[0]), item[1]
    if operation == "ANY":
        return character != "\n" or bool(flags & re.DOTALL)
    if operation != "IN":
        return bool(ord(character) == argument) == (operation == "LITERAL")
    members = [(str(name), value) for name, value in argument]
    return any(_is_in(character, *member) for member in members) != (("NEGATE", None) in members)


def _is_in(character: str, name: str, value: Any) -> bool:
    if name == "LITERAL":
        return bool(ord(character) == value)
    if name == "RANGE":
        return bool(value[0] <= ord(character) <= value[1])
    if name == "CATEGORY":
        kind = _CATEGORIES[str(value).rsplit("_", 1)[1]]
        return bool(kind.match(character)) != ("_NOT_" in str(value))
    return False
