"""The faults of a configuration, as many as somebody can use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shimcore.errors import ConfigFault

FAULTS_LIMIT = 50
"""Faults that are told one by one; the rest are counted."""


class Faults:
    """Collects faults, in order."""

    def __init__(self) -> None:
        self._listed: list[ConfigFault] = []
        self._further = 0

    def __iter__(self) -> Iterator[ConfigFault]:
        """Those that are told, and a last one that says how many more there are."""
        yield from self._listed
        if self._further:
            yield ConfigFault("", f"{self._further} more faults")

    def __bool__(self) -> bool:
        return bool(self._listed)

    def note(self, path: str, reason: str) -> None:
        """Note one fault."""
        self.add((ConfigFault(path, reason),))

    def add(self, faults: Iterable[ConfigFault]) -> None:
        """Note faults."""
        for fault in faults:
            if self.full:
                self._further += 1
            else:
                self._listed.append(fault)

    @property
    def full(self) -> bool:
        """Whether further faults are only counted."""
        return len(self._listed) >= FAULTS_LIMIT
