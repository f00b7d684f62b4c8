"""Time as a test has it."""

from __future__ import annotations

import time
from unittest import mock

from shimcore.images import moment

YEAR_S = 365 * 86_400.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def set_by(seconds: float) -> mock._patch[mock.MagicMock]:
    """The wall clock, set by so much, for moments."""
    now = mock.Mock(wraps=time, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME)
    now.time = lambda: time.time() + seconds
    return mock.patch.object(moment, "time", now)
