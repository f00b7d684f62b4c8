"""Lines for those who read them: a terminal, journald, systemd."""

from __future__ import annotations

import os

_STDERR = 2


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
