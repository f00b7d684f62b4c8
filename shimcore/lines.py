"""Lines for those who read them: a terminal, journald, systemd."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SAY_AGAIN_S = 60.0
_STDERR = 2


class Seldom:
    """What may happen often, and is told of at first and then once in SAY_AGAIN_S at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times = 0
        self._silent_until = float("-inf")

    def happened(self) -> int:
        """How often since it was last told of, this time included; 0 while it is not to be."""
        self._times += 1
        now = self._clock()
        if now < self._silent_until:
            return 0
        times, self._times, self._silent_until = self._times, 0, now + SAY_AGAIN_S
        return times


def printable(text: str) -> str:
    """`text` on one line, with what could steer a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def journal_reads() -> bool:
    """Whether standard error is the journal's.

    $JOURNAL_STREAM is inherited by whatever a unit's process starts, with any standard error: its
    device and inode say which it means (systemd.exec(5)).
    """
    try:
        found = os.fstat(_STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
