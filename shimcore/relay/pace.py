"""A pace for what a client may do at any time, but not at any rate.

What is done is owed. Time makes up for it, and so may something else that the client does. Up to
a share nobody waits; what is owed beyond may be taken from what all have in common, and who owes
more than that waits.
"""

from __future__ import annotations


class SharedPace:
    """What all clients have in common: so many at once, and so many a second more."""

    __slots__ = ("_at", "_left", "_limit", "_per_s")

    def __init__(self, limit: int, per_s: float) -> None:
        self._limit = limit
        self._per_s = per_s
        self._left = float(limit)
        self._at = 0.0

    def take(self, wanted: float, now: float) -> float:
        """Take so many, or as many as there are."""
        self._grow(now)
        taken = min(wanted, self._left)
        self._left -= taken
        return taken

    def take_one(self, now: float) -> bool:
        """Take one, if there is one."""
        self._grow(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _grow(self, now: float) -> None:
        grown = self._left + (now - self._at) * self._per_s
        self._left, self._at = min(grown, self._limit), now


class Pace:
    """What one client owes: `share` at once, and `per_s` a second more."""

    __slots__ = ("_at", "_before", "_per_s", "owed", "share")

    def __init__(self, share: int, per_s: float) -> None:
        self.share = share
        self.owed = 0.0
        self._per_s = per_s
        self._before = 0.0  # what was owed at the time of the last look, and still is
        self._at = 0.0

    def owe(self, number: int = 1) -> None:
        """The client has done it so many times."""
        self.owed += number

    def make_up(self) -> None:
        """The client has made up for one."""
        if self.owed:
            self.owed = max(self.owed - 1, 0)
            self._before = min(self._before, self.owed)

    def wait_s(self, now: float, shared: SharedPace | None = None) -> float:
        """How long the client has to wait, in seconds from now."""
        self.owed = max(self.owed - min((now - self._at) * self._per_s, self._before), 0)
        over = self.owed - self.share
        if over > 0 and shared is not None:
            taken = shared.take(over, now)
            self.owed -= taken
            over -= taken
        self._before, self._at = self.owed, now
        return max(over, 0) / self._per_s
