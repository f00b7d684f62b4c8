"""Changes inside files that belong to others, and how each is taken back. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from shimcore.errors import ShimError
from shimcore.systemd import envfile, yamltext


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
            name: known.old.get(name) if value in (known.ours, self.ours) else value
            for name, value in self.old.items()
        }
        return replace(self, old={**old, **known.old, **old})

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
        back = {key: value for key, value in self.old.items() if now[key] == self.ours}
        return yamltext.set_keys(text, back)


@dataclass(frozen=True, slots=True)
class FlagsEdit(_ValuesEdit):
    """Flags in a variable of an environment file were set."""

    variable: str

    def apply(self, text: str) -> str:
        """The text with every flag set. Raises ShimError."""
        for flag in self.old:
            text = envfile.set_flag(text, self.variable, flag, self.ours)
        return text

    def revert(self, text: str) -> str:
        """The text with the old values wherever ours still are. Raises ShimError."""
        for flag, value in self.old.items():
            if envfile.flag_in(text, self.variable, flag) == self.ours:
                text = envfile.set_flag(text, self.variable, flag, value)
        return text

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
                raise ShimError(f"{new.strip()!r} is there already; change the file by hand")
            text = text.replace(old, new, 1) if old else text + new
        return text

    def revert(self, text: str) -> str:
        """The text with the old pieces wherever ours still are. Raises ShimError."""
        for old, new in reversed(self.pieces):
            if text.count(new) > 1:
                raise ShimError(f"{new.strip()!r} is there more than once; change it by hand")
            text = text.replace(new, old)
        return text

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
        if any(text.count(new) for _, new in edit.pieces):
            continue  # it could not be told from what is there
        with contextlib.suppress(ValueError):
            if read(edit.apply(text)) == expected:
                return edit
    return None


Edit = KeysEdit | FlagsEdit | SpliceEdit
_KINDS: dict[str, type[Edit]] = {"keys": KeysEdit, "flags": FlagsEdit, "splice": SpliceEdit}


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
