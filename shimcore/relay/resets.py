"""Calls that clients begin and give up at once: at a pace that the runtime can bear.

Each costs the client a few bytes, and the runtime a call (CVE-2023-44487). A call that is let
finish makes up for one that is given up, and so does time. What a connection owes beyond its
share is taken from what all have in common; when that is used up as well, the client is not
read until it owes no more than its share.
"""

from __future__ import annotations

from shimcore.relay.limits import RESETS_PER_S, RESETS_SHARE, SHARED_RESETS, SHARED_RESETS_PER_S


class SharedResets:
    """What all connections may give up beyond their shares."""

    def __init__(self) -> None:
        self._left = float(SHARED_RESETS)
        self._at = 0.0

    def take(self, wanted: float, now: float) -> float:
        """Take so many, or as many as there are."""
        grown = self._left + (now - self._at) * SHARED_RESETS_PER_S
        self._left, self._at = min(grown, SHARED_RESETS), now
        taken = min(wanted, self._left)
        self._left -= taken
        return taken


class Resets:
    """Calls that one client has given up, and nothing has made up for."""

    __slots__ = ("_at", "_before", "owed")

    def __init__(self) -> None:
        self.owed = 0.0
        self._before = 0.0  # what was owed at the time of the last look
        self._at = 0.0

    def given_up(self) -> None:
        """The client has reset a call that was under way."""
        self.owed += 1

    def finished(self) -> None:
        """The runtime has ended a call of its own accord."""
        if self.owed:
            self.owed = max(self.owed - 1, 0)

    def wait_s(self, shared: SharedResets, now: float) -> float:
        """How long the client is not to be read, in seconds from now."""
        self.owed = max(self.owed - min((now - self._at) * RESETS_PER_S, self._before), 0)
        over = self.owed - RESETS_SHARE
        if over > 0:
            taken = shared.take(over, now)
            self.owed -= taken
            over -= taken
        self._before, self._at = self.owed, now
        return max(over, 0) / RESETS_PER_S
