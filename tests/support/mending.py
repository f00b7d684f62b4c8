"""Follows a mend as its reader does: types the command in it, makes the change that it states.

A mend is a command with a comment behind it (`  # …`), or what is done by hand (`in FILE, …`) with
a command behind that (`; then …`). What is neither is done by the test that calls this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cli.doctor import COMMANDS

Edit = Callable[[Any, re.Match[str], str], None]


@dataclass(frozen=True)
class Mend:
    """What is done by hand, and what is typed; either may be empty."""

    said: str
    command: str


def read_mend(text: str) -> Mend:
    """Its parts."""
    text = text.partition("  # ")[0]
    if text.startswith(COMMANDS):
        return Mend("", text)
    said, _, command = text.partition("; then ")
    return Mend(said, command)


@dataclass
class Reader:
    """Follows mends on a node; notes them in `typed`."""

    shell: Callable[[str], object]
    """Types a line, which has to succeed."""
    place: Callable[[str], Path]
    """Where a file of the node's is."""
    knows: Mapping[str, str] = field(default_factory=dict)
    """What a reader puts in for the words in capitals."""
    by_hand: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    """What a reader does who reads words that begin so."""
    typed: list[str] = field(default_factory=list)

    def follow(self, finding: Mapping[str, str]) -> None:
        """All of the finding's mend."""
        mend = read_mend(finding["mend"])
        assert mend.said or mend.command, finding
        if mend.said:
            self._do(mend.said, finding)
        if mend.command:
            line = self._filled_in(mend.command)
            self.typed.append(line)
            self.shell(line)

    def _do(self, said: str, finding: Mapping[str, str]) -> None:
        self.typed.append(said)
        for words, act in self.by_hand.items():
            if said.startswith(words):
                act()
                return
        for pattern, edit in _EDITS.items():
            if found := re.search(pattern, said):
                self._edit(found, edit, finding)
                return
        raise AssertionError(f"nobody can follow: {said}")

    def _edit(self, found: re.Match[str], edit: Edit, finding: Mapping[str, str]) -> None:
        file = self.place(found["file"])
        if edit is _take_out_of_toml:
            listed = rf"(?<=[\[ ]){re.escape(found['what'])},? ?"
            file.write_text(re.sub(listed, "", file.read_text()))
            return
        tree = yaml.safe_load(file.read_text())
        edit(tree, found, finding["check"])
        file.write_text(self._filled_in(yaml.safe_dump(tree)))

    def _filled_in(self, text: str) -> str:
        for word, value in self.knows.items():
            text = text.replace(word, value)
        return text


def _entry(tree: Any, check: str) -> Any:
    """What stands beside the address that the check names."""
    entries = [tree, *tree.get("registries", ())]
    (one,) = [each for each in entries if check.endswith(str(each["address"]))]
    return one


def _beside(tree: Any, found: re.Match[str], check: str) -> None:
    _entry(tree, check)[found["key"]] = found["value"]


def _address(tree: Any, found: re.Match[str], check: str) -> None:
    _entry(tree, check)["address"] = found["url"]


def _at_the_top(tree: Any, found: re.Match[str], check: str) -> None:
    tree[found["key"]] = found["value"]


def _take_out(tree: Any, found: re.Match[str], check: str) -> None:
    tree[found["key"]].remove(found["what"])


def _take_out_of_toml(tree: Any, found: re.Match[str], check: str) -> None:
    """A list of containerd's, changed as text."""


def _domain(tree: Any, found: re.Match[str], check: str) -> None:
    (one,) = [each for each in (tree["hub"], *tree.get("registries", ())) if "domains" in each]
    one["domains"].append(found["domain"])


_EDITS: dict[str, Edit] = {
    r"in (?P<file>\S+), beside its address, \w+ .*\((?P<key>\w+): (?P<value>[^)]+)\)": _beside,
    r"in (?P<file>\S+), write (?P<url>https?://\S+) as its address": _address,
    r"in (?P<file>\S+), write .* \((?P<key>\w+): (?P<value>\S+)\)": _at_the_top,
    r'in (?P<file>\S+), take (?P<what>"\S+") out of (?P<key>\w+)': _take_out_of_toml,
    r"in (?P<file>\S+), take (?P<what>\S+) out of (?P<key>\w+)": _take_out,
    r"in (?P<file>\S+), add (?P<domain>\S+) to the domains of the registry": _domain,
}
