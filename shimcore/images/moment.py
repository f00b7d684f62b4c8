"""Moments that are held against the times of the runtime's records, which are the wall clock's.

A node whose clock has no battery boots far behind, and is set right in the middle of its work.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

# Less is the time between two readings; a clock is set by more, or turned to the right time.
_STEP_S = 0.1


@cache
def boot_id() -> str:
    """Of the boot that this is (random(4)); "" where that cannot be told."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


def _now() -> float:
    return time.time()


def wall_ahead_s() -> float:
    """How far the wall clock is ahead of the one that nobody sets and that counts from the boot on,
    a node's sleep included (clock_gettime(2))."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of this boot; `at` in seconds since 1970, by the clock as it was then."""

    at: float = field(default_factory=_now)
    ahead_s: float = field(default_factory=wall_ahead_s, compare=False)

    @property
    def seconds(self) -> float:
        """The moment by the clock as it is now."""
        set_by_s = wall_ahead_s() - self.ahead_s
        return self.at if abs(set_by_s) < _STEP_S else self.at + set_by_s

    @property
    def earliest(self) -> float:
        """The same where the clock was set back; else `at`. What has come since has no earlier
        time, whether it came before the clock was set or after."""
        return min(self.at, self.seconds)


CLOCK_SLACK_S = 5.0
"""How far a time of the runtime's may be ahead of the clock that is read here."""

NEVER = Moment(float("inf"))
"""Later than all others."""
