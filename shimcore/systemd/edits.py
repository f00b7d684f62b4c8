"""Changes inside files that belong to others, and how each is taken back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shimcore.errors import ShimError
from shimcore.systemd import envfile, yamltext


@dataclass(frozen=True, slots=True)
class KeysEdit:
    """Top-level keys of a YAML file were set to `ours`; `old` is what they were."""

    ours: str
    old: Mapping[str, str | None]

    def apply(self, text: str) -> str:
        """The text with every key set. Raises ShimError."""
        return yamltext.set_keys(text, dict.fromkeys(self.old, self.ours))

    def revert(self, text: str) -> str:
        """The text with the old values wherever ours still are. Raises ShimError."""
        now = yamltext.get_keys(text, tuple(self.old))
        back = {key: value for key, value in self.old.items() if now[key] == self.ours}
        return yamltext.set_keys(text, back)

    def joined(self, known: Edit) -> KeysEdit:
        """Both edits as one; the old values of the known one where only ours are found now."""
        return KeysEdit(self.ours, _old_values(self, known))

    def texts(self) -> list[object]:
        """What has to be texts when it was read."""
        return [self.ours, *self.old, *(old for old in self.old.values() if old is not None)]

    def as_json(self) -> dict[str, Any]:
        """For the record of the installation."""
        return {"kind": "keys", "ours": self.ours, "old": dict(self.old)}


@dataclass(frozen=True, slots=True)
class FlagsEdit:
    """Flags in a variable of an environment file were set to `ours`."""

    ours: str
    variable: str
    old: Mapping[str, str | None]

    def apply(self, text: str) -> str:
        """The text with every flag set. Raises ShimError."""
        for flag in self.old:
            text = envfile.set_flag(text, self.variable, flag, self.ours)
        return text

    def revert(self, text: str) -> str:
        """The text with the old values wherever ours still are. Raises ShimError."""
        for flag, value in self.old.items():
            words = envfile.variables(text).get(self.variable, "").split()
            if envfile.flag_value(words, flag) == self.ours:
                text = envfile.set_flag(text, self.variable, flag, value)
        return text

    def joined(self, known: Edit) -> FlagsEdit:
        """Both edits as one; the old values of the known one where only ours are found now."""
        return FlagsEdit(self.ours, self.variable, _old_values(self, known))

    def texts(self) -> list[object]:
        """What has to be texts when it was read."""
        return [self.ours, *self.old, *(old for old in self.old.values() if old is not None)]

    def as_json(self) -> dict[str, Any]:
        """For the record of the installation."""
        old = dict(self.old)
        return {"kind": "flags", "ours": self.ours, "variable": self.variable, "old": old}


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

    def as_json(self) -> dict[str, Any]:
        """For the record of the installation."""
        return {"kind": "splice", "pieces": [list(piece) for piece in self.pieces]}


Edit = KeysEdit | FlagsEdit | SpliceEdit


def from_json(value: Mapping[str, Any]) -> Edit:
    """The edit that `as_json` wrote."""
    if value["kind"] == "splice":
        return SpliceEdit(tuple((old, new) for old, new in value["pieces"]))
    if value["kind"] == "keys":
        return KeysEdit(value["ours"], value["old"])
    return FlagsEdit(value["ours"], value["variable"], value["old"])


def _old_values(edit: KeysEdit | FlagsEdit, known: Edit) -> dict[str, str | None]:
    if isinstance(known, SpliceEdit):
        return dict(edit.old)
    old = {
        name: known.old.get(name) if value in (known.ours, edit.ours) else value
        for name, value in edit.old.items()
    }
    for name, value in known.old.items():
        old.setdefault(name, value)
    return old
