"""The settings that one side has announced, and which of them hold already (RFC 9113 §6.5)."""

from __future__ import annotations

from collections import deque
from itertools import islice

from shimcore.relay import frames
from shimcore.relay.limits import PENDING_SETTINGS

_DEFAULTS = {
    frames.SETTINGS_HEADER_TABLE_SIZE: 4096,
    frames.SETTINGS_INITIAL_WINDOW_SIZE: frames.DEFAULT_WINDOW,
    frames.SETTINGS_MAX_FRAME_SIZE: 16_384,
}


class AnnouncedSettings:
    """Follows one side's SETTINGS; until an ACK has passed, old and new may both hold."""

    __slots__ = ("_acknowledged", "_arrived", "_pending", "window")

    def __init__(self) -> None:
        self._acknowledged = dict(_DEFAULTS)
        self._pending: deque[dict[int, int]] = deque()
        self._arrived = 0  # ACKs that are here and have not passed
        self.window = frames.DEFAULT_WINDOW  # the smallest initial one that may be in force now

    def announce(self, payload: bytes) -> None:
        """A SETTINGS frame of this side has passed."""
        known = {key: value for key, value in frames.settings(payload) if key in _DEFAULTS}
        self._pending.append(known)
        if len(self._pending) > PENDING_SETTINGS:  # the oldest two count as one
            self._acknowledged.update(self._pending.popleft())
        self._follow()

    def _follow(self) -> None:
        self.window = min(self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE))

    def next_shrinks(self, key: int) -> bool:
        """Whether the next ACK makes a value smaller."""
        now = self._acknowledged[key]
        return bool(self._pending) and self._pending[0].get(key, now) < now

    def ack_arrives(self, key: int) -> int:
        """The other side's ACK is here, and may have to wait; the value that it stands for."""
        self._arrived = min(self._arrived + 1, len(self._pending))
        value = self._acknowledged[key]
        for announced in islice(self._pending, self._arrived):
            value = announced.get(key, value)
        return value

    def acknowledge(self) -> None:
        """The other side's ACK has passed."""
        if self._pending:
            self._acknowledged.update(self._pending.popleft())
        self._arrived = max(self._arrived - 1, 0)
        self._follow()

    def loosest(self, key: int) -> int:
        """The largest value that may be in force now."""
        return max(self._values(key))

    def _values(self, key: int) -> list[int]:
        pending = [announced[key] for announced in self._pending if key in announced]
        return [self._acknowledged[key], *pending]
