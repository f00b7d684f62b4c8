"""Changes inside files that belong to others, and how each is taken back. Pure."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from shimcore.errors import ShimError
from shimcore.systemd import envfile, yamltext
from shimcore.systemd.units import modern
from shimcore.unixsocket import socket_path


@dataclass(frozen=True, slots=True)
class _ValuesEdit:
    """Values were set to `ours`; `old` is what they were, by name, None for no value."""

    ours: str
    old: Mapping[str, str | None]

    def joined(self, known: Edit) -> Self:
        """Both edits as one; the old values of the known one where only ours are found now."""
        if isinstance(known, SpliceEdit):
            return self
        old = {
            name: known.old.get(name) if known.is_ours(value) or self.is_ours(value) else value
            for name, value in self.old.items()
        }
        return replace(self, old={**old, **known.old, **old})

    def is_ours(self, value: str | None) -> bool:
        """Whether it is our endpoint, however that is written."""
        return value is not None and _socket(value) == _socket(self.ours)

    def texts(self) -> list[object]:
        """What has to be texts when it was read."""
        return [self.ours, *self.old, *(old for old in self.old.values() if old is not None)]


@dataclass(frozen=True, slots=True)
class KeysEdit(_ValuesEdit):
    """Top-level keys of a YAML file were set."""

    def apply(self, text: str) -> str:
        """The text with every key set. Raises ShimError."""
        return yamltext.set_keys(text, dict.fromkeys(self.old, self.ours))

    def revert(self, text: str) -> str:
        """The text with the old values wherever ours still are. Raises ShimError."""
        now = yamltext.get_keys(text, tuple(self.old))
        back = {key: value for key, value in self.old.items() if self.is_ours(now[key])}
        return yamltext.set_keys(text, back)


@dataclass(frozen=True, slots=True)
class FlagsEdit(_ValuesEdit):
    """Flags in variables of an environment file were set.

    `old` by `--flag`, which is in `variable`, or by `VARIABLE --flag`.
    """

    variable: str

    def apply(self, text: str) -> str:
        """The text with every flag set. Raises ShimError."""
        for variable, flag in map(self._place, self.old):
            text = envfile.set_flag(text, variable, flag, self.ours)
        return text

    def revert(self, text: str) -> str:
        """The text with the old values wherever ours still are. Raises ShimError."""
        for name, value in self.old.items():
            variable, flag = self._place(name)
            if self.is_ours(envfile.flag_in(text, variable, flag)):
                text = envfile.set_flag(text, variable, flag, value)
        return text

    def joined(self, known: Edit) -> Self:
        """As of all values; those of the known one by where they stand."""
        if isinstance(known, FlagsEdit):
            places = {known._place(name): value for name, value in known.old.items()}
            old = {
                flag if variable == self.variable else f"{variable} {flag}": value
                for (variable, flag), value in places.items()
            }
            known = replace(known, old=old)
        return _ValuesEdit.joined(self, known)

    @property
    def is_of_several(self) -> bool:
        """Whether flags are in more than one variable."""
        return any(" " in name for name in self.old)

    def placed(self, before: str) -> Self:
        """Each flag in the variables that had it in the text of before, if not in `variable`."""
        old: dict[str, str | None] = {}
        for flag, value in self.old.items():
            had = {each: envfile.flag_in(before, each, flag) for each in envfile.variables(before)}
            elsewhere = {f"{each} {flag}": it for each, it in had.items() if it is not None}
            old |= {flag: value} if had.get(self.variable) or not elsewhere else elsewhere
        return replace(self, old=old)

    def _place(self, name: str) -> tuple[str, str]:
        """The variable and the flag in it."""
        variable, _, flag = name.rpartition(" ")
        return variable or self.variable, flag

    def texts(self) -> list[object]:
        """What has to be texts when it was read."""
        return [self.variable, *_ValuesEdit.texts(self)]


@dataclass(frozen=True, slots=True)
class SpliceEdit:
    """Pieces of a text were replaced: what was there, and what is there now."""

    pieces: tuple[tuple[str, str], ...]

    def apply(self, text: str) -> str:
        """The text with every piece replaced where it is found first. Raises ShimError."""
        for old, new in self.pieces:
            if text.count(new):
                raise ShimError("our part is there already; change the file by hand")
            text = text.replace(old, new, 1) if old else text + new
        return text

    def revert(self, text: str) -> str:
        """The text with the old pieces wherever ours still are. Raises ShimError."""
        for old, new in reversed(self.pieces):
            if text.count(new) > 1:
                raise ShimError("our part is there more than once; change it by hand")
            before, found, after = text.partition(new)
            # What was added after a last line without an end began with that end.
            is_open = not old and before and after and not before.endswith("\n")
            text = (
                f"{before}{old}\n{after}" if is_open else f"{before}{old if found else ''}{after}"
            )
        return text

    def lost(self, text: str) -> str:
        """The lines of ours in pieces that are not found, as they were written."""
        pieces = []
        for old, new in reversed(self.pieces):
            if new not in text:
                added = [line for line in new.splitlines() if line not in old.splitlines()]
                pieces.append("\n".join(added).strip())
            text = text.replace(new, old)
        return "\n".join(reversed(pieces))

    def joined(self, known: Edit) -> SpliceEdit:
        """Both edits as one."""
        earlier = known.pieces if isinstance(known, SpliceEdit) else ()
        return SpliceEdit((*(each for each in earlier if each not in self.pieces), *self.pieces))

    def texts(self) -> list[object]:
        """What has to be texts when it was read."""
        return [text for piece in self.pieces for text in piece]


def first_that_reads(
    text: str, edits: Iterable[SpliceEdit], expected: object, read: Callable[[str], object]
) -> SpliceEdit | None:
    """The first edit after which the text reads as it should; None where none does it.

    `read` raises ValueError for what cannot be read.
    """
    for edit in edits:
        with contextlib.suppress(ValueError, ShimError):  # also one that is there already
            if read(edit.apply(text)) == expected:
                return edit
    return None


def _socket(endpoint: str) -> str:
    """The path, which may be written in quotes, or below /var/run."""
    return modern(socket_path(endpoint.strip("\"'")))


Edit = KeysEdit | FlagsEdit | SpliceEdit
_KINDS: dict[str, type[Edit]] = {"keys": KeysEdit, "flags": FlagsEdit, "splice": SpliceEdit}


def reverted(edit: Edit, content: bytes) -> bytes:
    """The file's content without our part; bytes that are no UTF-8 stay. Raises ShimError.

    What could be read before, as TOML or JSON, can be read after it.
    """
    before = content.decode(errors=envfile.ERRORS)
    after = edit.revert(before)
    for read in (tomllib.loads, json.loads):
        if after.strip() and _reads(read, before) and not _reads(read, after):
            raise ShimError("our part cannot be taken out alone; change it by hand")
    return after.encode(errors=envfile.ERRORS)


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (ValueError, RecursionError):
        return False
    return True


def as_json(edit: Edit) -> dict[str, Any]:
    """For the record of the installation."""
    kind = next(name for name, each in _KINDS.items() if isinstance(edit, each))
    return {"kind": kind, **asdict(edit)}


def from_json(value: Mapping[str, Any]) -> Edit:
    """The edit that `as_json` wrote. Raises LookupError, TypeError and ValueError for none."""
    fields = {name: each for name, each in value.items() if name != "kind"}
    if value["kind"] == "splice":
        fields["pieces"] = tuple((old, new) for old, new in fields["pieces"])
    return _KINDS[value["kind"]](**fields)
