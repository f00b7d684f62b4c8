"""The dead man's handle: a timer of systemd undoes the switch unless it is held again and again."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future, wait

from shimcore.errors import ShimError
from shimcore.switch import undo
from shimcore.switch.exchange import UNDO
from shimcore.switch.undo import BOOT_LINK, UNDO_AT_BOOT, UNDO_SERVICE, UNDO_TIMER, Before
from shimcore.systemd.entries import File, Link, write
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.units import UNITS
from shimcore.threads import started

BEAT_S = 3.0
CLOSE_S = 1.0
"""Steps that follow one another so closely count from the first."""
MARGIN_S = 5
"""The timer's time is longer than that of health by this: the switch itself is faster."""


class Handle:
    """Armed from `arm` on; what is allowed time for is not undone in it."""

    def __init__(self, root: Root, control: ServiceControl) -> None:
        self._root = root
        self._control = control
        self._until = 0.0
        self._beaten_at = 0.0
        self._wake = threading.Event()
        self._ended = False
        self._holding: Future[None] | None = None

    def arm(self, before: Before, health_s: int) -> None:
        """Write script and units, and start the timer. Raises ShimError."""
        write(self._root, UNDO, File(undo.script(self._root, before).encode(), 0o700))
        for name, text in undo.unit_texts(health_s + MARGIN_S).items():
            write(self._root, f"{UNITS}/{name}", File(text.encode()))
        write(self._root, BOOT_LINK, Link(f"{UNITS}/{UNDO_AT_BOOT}"))
        self._control.run("daemon-reload")
        self._control.run("restart", UNDO_TIMER)
        try:
            self._holding = started(self._hold)
        except RuntimeError as error:
            raise ShimError(f"{UNDO_TIMER} cannot be held: {error}") from error

    def allow(self, seconds: float) -> None:
        """Count the timer's time from now, and hold it for as long as `seconds`."""
        self._until = time.monotonic() + seconds
        if time.monotonic() - self._beaten_at > CLOSE_S:
            self._beat()
        self._wake.set()

    def let_go(self) -> None:
        """Hold it no longer."""
        self._ended = True
        self._wake.set()
        if self._holding is not None:
            wait([self._holding])

    def pull(self, timeout_s: float) -> None:
        """Undo at once. Raises ShimError where that takes long; the timer is there as well."""
        self.let_go()
        self._control.run("start", UNDO_SERVICE, timeout_s=timeout_s)

    def _hold(self) -> None:
        while not self._ended:
            left = self._until - time.monotonic()
            self._wake.wait(BEAT_S if left > 0 else None)
            if self._wake.is_set():
                self._wake.clear()
            elif left > 0:
                self._beat()

    def _beat(self) -> None:
        self._beaten_at = time.monotonic()
        # A timer that cannot be held fires, which is safe.
        with contextlib.suppress(ShimError):
            self._control.run("restart", UNDO_TIMER)
