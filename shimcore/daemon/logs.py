"""Log lines: with time and level for a terminal, with journald's priorities under systemd.

Nobody waits for who reads them: see `outlet`.
"""

from __future__ import annotations

import logging
import sys
from asyncio import AbstractEventLoop
from collections import defaultdict
from typing import Any

from shimcore.daemon.outlet import Outlet
from shimcore.lines import Seldom, journal_reads, printable

log = logging.getLogger("shimcore.daemon")

# sd-daemon(3): the priority in front of each line.
_PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
# How long lines that were not taken wait before they are offered again.
_AGAIN_S = 0.2
# How often it is tried to say that lines were dropped, where nothing can be written.
_TELL_AGAIN_S = 5.0


class _OneLine(logging.Formatter):
    """A record as one line, all that cannot be printed escaped; a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        return super().formatMessage(record).replace("\n", "\\n").replace("\r", "\\r")


class _Journal(_OneLine):
    """The same, each line of it with journald's priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in super().format(record).split("\n"))


class Faults:
    """What callbacks of an event loop raise: a traceback a minute of each kind of exception, and of
    a MemoryError no more than a line."""

    def __init__(self) -> None:
        self._kinds: defaultdict[type, Seldom] = defaultdict(Seldom)

    def tell(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception handler of `loop`."""
        error = context.get("exception")
        times = self._kinds[type(error)].happened()
        if times and isinstance(error, MemoryError):
            log.error(
                "no memory is left: %d connections or calls have ended for it; see MemoryMax= of"
                " the unit, memory.max of its cgroup",
                times,
            )
        elif times:
            more = f" ({times} such since the last that was told)" if times > 1 else ""
            loop.default_exception_handler({**context, "message": f"{context['message']}{more}"})


class Lines(logging.Handler):
    """Writes records without waiting; what is not taken is dropped, counted and told later."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self._loop: AbstractEventLoop | None = None
        self._timed = False
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines that nobody will see."""
        return self._outlet.dropped

    def serve_in(self, loop: AbstractEventLoop) -> None:
        """From here on `loop` offers again what was not taken."""
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or keep it for a moment, or drop it."""
        try:
            self._outlet.write(self._encoded(record))
        except Exception:  # noqa: BLE001 - a record that cannot be formatted ends nothing
            self._outlet.dropped += 1
        loop = self._loop
        if self._owes and not self._timed and loop is not None and not loop.is_closed():
            self._timed = True
            loop.call_soon_threadsafe(self._wait, loop)

    @property
    def _owes(self) -> bool:
        """Whether something waits, or was dropped and has not been told of."""
        return self._outlet.waiting or self._outlet.dropped > self._told

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _wait(self, loop: AbstractEventLoop) -> None:
        wait_s = _AGAIN_S if self._outlet.waiting else _TELL_AGAIN_S
        loop.call_later(wait_s, self._offer_again, loop)

    def _offer_again(self, loop: AbstractEventLoop) -> None:
        self.acquire()
        try:
            self._outlet.flush()
            if not self._outlet.waiting:
                self._tell()
            self._timed = self._owes
        finally:
            self.release()
        if self._timed:
            self._wait(loop)

    def _tell(self) -> None:
        """How many were dropped, once that can be written."""
        dropped = self._outlet.dropped
        if dropped > self._told:
            log.warning(
                "%d log lines were dropped: they could not be written", dropped - self._told
            )
            if self._outlet.dropped == dropped:
                self._told = dropped
            self._outlet.dropped = dropped


def set_up(*, debug: bool) -> Lines:
    """Send all records to standard error; `debug` also the project's of level DEBUG."""
    # Facts about a record that no format here shows.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Lines(Outlet(sys.stderr.fileno()))
    if journal_reads():
        handler.setFormatter(_Journal("%(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    ours = logging.getLogger("shimcore")
    ours.handlers[:] = [handler]
    ours.propagate = False
    # What libraries say would go to standard error by itself, and wait there.
    logging.getLogger().handlers[:] = [handler]
    set_level(debug=debug)
    return handler


def set_level(*, debug: bool) -> None:
    """Switch debug records on or off."""
    logging.getLogger("shimcore").setLevel(logging.DEBUG if debug else logging.INFO)
