"""Every pattern is gone through in a time that grows as its text does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import cli
import shimcore
from tests.support.backtracking import Pattern

SEARCHING = {"search", "sub", "finditer", "findall", "split"}

BOUNDED = {
    "shimcore.systemd.envfile._PIECE": "files of root's",
    "shimcore.systemd.runtimes.rancher._CONFIG": "a command of root's",
}
"""Patterns whose steps grow faster, and why nobody can make much of that."""


def _patterns() -> dict[str, tuple[re.Pattern[str] | re.Pattern[bytes], bool]]:
    """Each of a module's own patterns by its name, and whether it is searched for."""
    found = {}
    for package in (cli, shimcore):
        folder = Path(package.__path__[0])
        for file in folder.rglob("*.py"):
            text = file.read_text()
            names = re.findall(r"^(\w+) = re\.compile\(", text, re.MULTILINE)
            if names:
                place = file.relative_to(folder.parent).with_suffix("").as_posix()
                module = place.removesuffix("/__init__").replace("/", ".")
                for name in names:
                    uses = re.findall(rf"\b{name}\.(\w+)\(", text)
                    pattern = getattr(importlib.import_module(module), name)
                    found[f"{module}.{name}"] = (pattern, not SEARCHING.isdisjoint(uses))
    return found


PATTERNS = _patterns()


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - BOUNDED.keys()))
def test_twice_the_text_takes_twice_the_steps(name: str) -> None:
    """Whatever of its own characters is repeated in it."""
    pattern, searched = PATTERNS[name]
    times, text = Pattern(pattern).growth(searched=searched)
    assert times < 3, text


@pytest.mark.parametrize(
    ("pattern", "searched"),
    [
        (r"(a+)+b", False),
        (r"[0-9]+.[0-9]+.[0-9]+.[0-9]+", False),
        (r"\w+ (?:http://[^\s/]*)?(\S+) HTTP", False),
        (r"[a-z]+://", True),
        (r"://([^?]*)\?", True),
        (r"<(.*?)>", True),
    ],
)
def test_one_that_takes_more_is_seen(pattern: str, searched: bool) -> None:
    """What these were written after."""
    assert Pattern(re.compile(pattern)).growth(searched=searched)[0] > 3
