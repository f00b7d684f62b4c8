"""Changes inside files that belong to others, and how each is taken back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    def as_json(self) -> dict[str, Any]:
        """For the record of the installation."""
        old = dict(self.old)
        return {"kind": "flags", "ours": self.ours, "variable": self.variable, "old": old}


Edit = KeysEdit | FlagsEdit


def from_json(value: Mapping[str, Any]) -> Edit:
    """The edit that `as_json` wrote."""
    if value["kind"] == "keys":
        return KeysEdit(value["ours"], value["old"])
    return FlagsEdit(value["ours"], value["variable"], value["old"])
