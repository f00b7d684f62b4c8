"""Moments that are held against the times of the runtime's records, which are the wall clock's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


def _now() -> float:
    return time.time()


def _wall_ahead_s() -> float:
    """How far the wall clock is ahead of the one that nobody sets."""
    return time.time() - time.monotonic()


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of this process; `at` in seconds since 1970, by the clock as it was then."""

    at: float = field(default_factory=_now)
    _ahead_s: float = field(default_factory=_wall_ahead_s, compare=False)

    @property
    def seconds(self) -> float:
        """The moment by the clock as it is now, where that was set back; else `at`."""
        return self.at + min(0.0, _wall_ahead_s() - self._ahead_s)


CLOCK_SLACK_S = 5.0
"""How far a time of the runtime's may be ahead of the clock that is read here."""

NEVER = Moment(float("inf"))
"""Later than all others."""
