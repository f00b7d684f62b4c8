"""The circuit breaker of one registry: a dead hub costs a question milliseconds, not a timeout.

              failures enough              period over
    CLOSED ───────────────────▶ OPEN ───────────────────▶ HALF_OPEN
       ▲ ▲                      │  ▲                        │   │
       │ └──── it answered ─────┘  └──── the trial failed ──┘   │
       └─────────────────────── the trial was answered ─────────┘

No I/O and no timers: the caller reports what happened, and the clock is given.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from shimcore.registry.errors import Fault

SILENT_LIMIT = 2  # a refused connection is proof at once; one slow answer is not
FIRST_PERIOD_S = 0.5
LONGEST_PERIOD_S = 5.0  # so that a hub that came back is used again within seconds
PERIOD_GROWTH = 2.0
JITTER = 0.2  # of the period, either way: hundreds of nodes do not knock in step


class State(StrEnum):
    """What the breaker lets through: everything, nothing, or one trial."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Health of one registry. `clock` in seconds, monotonic; `random` yields 0 to 1."""

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._state = State.CLOSED
        self._silent = 0
        self._period_s = 0.0
        self._retry_at = 0.0
        self._failed_at = 0.0
        self._current_since = float("-inf")  # when the last answer came or the trial began
        self.down_since = 0.0  # the first failure of those that opened it; not for CLOSED
        self.reason = ""

    @property
    def retry_in_s(self) -> float:
        """Seconds until the next trial; 0 when it is due or under way."""
        waiting = self._state is State.OPEN
        return max(0.0, self._retry_at - self._clock()) if waiting else 0.0

    @property
    def state(self) -> State:
        """The state as of now: an open breaker whose period is over is ready for its trial."""
        return State.HALF_OPEN if self.trial_is_due() else self._state

    @property
    def lets_through(self) -> bool:
        """Whether an ordinary question may be asked."""
        return self._state is State.CLOSED

    @property
    def in_doubt(self) -> bool:
        """Whether a question had no answer in time, which the next one may prove or disprove."""
        return self._state is State.CLOSED and self._silent > 0

    def trial_is_due(self) -> bool:
        """Say whether the open period is over and nobody is trying yet."""
        return self._state is State.OPEN and self._clock() >= self._retry_at

    def begin_trial(self) -> None:
        """Let one question through; its end is reported as answered, failed or abandoned.

        Only when it is due.
        """
        self._current_since = self._clock()
        self._state = State.HALF_OPEN

    def abandon_trial(self) -> None:
        """Take back a trial that ended without telling anything."""
        if self._state is State.HALF_OPEN:
            self._state = State.OPEN

    def answered(self) -> None:
        """Note that the registry answered, whatever it said."""
        self._silent = 0
        self._period_s = 0.0
        self._current_since = self._clock()
        self._state = State.CLOSED

    def failed(self, fault: Fault, reason: str, asked_at: float) -> None:
        """Note a failure of a question asked at `asked_at`: no connection, or no answer.

        An answer or a trial since then outweighs it: a timeout tells of the time before. While
        the breaker is open, late failures change nothing.
        """
        if self._state is State.OPEN or asked_at < self._current_since:
            return
        self._failed_at = self._clock()
        self.reason = reason
        if self._state is State.CLOSED and not self._silent:
            self.down_since = asked_at
        self._silent += fault is Fault.SILENT
        if fault is Fault.CONNECT or self._state is State.HALF_OPEN:
            self._open()
        elif self._silent >= SILENT_LIMIT:
            # It may be slow about these images alone, fetching them from somewhere else.
            self._open(at_once=True)

    def refusal(self) -> str:
        """Return why a question is not asked now."""
        ago_s = self._clock() - self._failed_at
        trying = "; being tried again" if self._state is State.HALF_OPEN else ""
        return f"not asked: it failed {ago_s:.1f} s ago ({self.reason}){trying}"

    def _open(self, *, at_once: bool = False) -> None:
        """Leave it alone for a period; `at_once`: the first trial is due now."""
        self._period_s = min(max(self._period_s * PERIOD_GROWTH, FIRST_PERIOD_S), LONGEST_PERIOD_S)
        spread = 1 + JITTER * (2 * self._random() - 1)
        wait_s = 0.0 if at_once else min(self._period_s * spread, LONGEST_PERIOD_S)
        self._retry_at = self._clock() + wait_s
        self._state = State.OPEN
