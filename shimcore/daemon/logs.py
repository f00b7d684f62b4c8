"""Log lines: with time and level for a terminal, with journald's priorities under systemd."""

from __future__ import annotations

import logging
import os
import sys

# sd-daemon(3): the priority in front of each line.
_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


class _OneLine(logging.Formatter):
    """A record as one line: line breaks of foreign text are escaped, a traceback's are not."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        return super().formatMessage(record).replace("\n", "\\n").replace("\r", "\\r")


class _Journal(_OneLine):
    """The same, each line of it with journald's priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in super().format(record).split("\n"))


def set_up(*, debug: bool) -> None:
    """Send the project's records to standard error; `debug` also those of level DEBUG."""
    # Facts about a record that no format here shows.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_Journal("%(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger("shimcore")
    root.handlers[:] = [handler]
    root.propagate = False
    set_level(debug=debug)


def set_level(*, debug: bool) -> None:
    """Switch debug records on or off."""
    logging.getLogger("shimcore").setLevel(logging.DEBUG if debug else logging.INFO)
