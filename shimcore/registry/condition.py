"""What the shim's own requests to one registry have told of it, for `status` and `doctor`.

The breaker decides whether it is asked; this remembers why, since when, and whether its login
was taken. Nothing but the client's own requests is heard of here.
"""

from __future__ import annotations

from collections.abc import Callable

from shimcore.registry.answers import RegistryHealth, RegistryState
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError
from shimcore.registry.health import Breaker, State


class Condition:
    """One registry's; `login` says whether one is configured. `clock` as the breaker's."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float], *, login: bool) -> None:
        self.breaker = breaker
        self._clock = clock
        self._refusal = RegistryState.LOGIN_REFUSED if login else RegistryState.LOGIN_MISSING
        self._state = RegistryState.NOT_ASKED
        self._since = clock()
        self._served = False  # a question has been answered, with the login if it takes one
        self._reason = ""
        self._answered_at: float | None = None
        self._failed_at: float | None = None

    def served(self) -> None:
        """Note that a question was answered: yes, or no such image."""
        self._answer()
        self._served = True
        self._enter(RegistryState.IN_USE)

    def answered(self) -> None:
        """Note an answer that the login had no part in: what is known of that stays."""
        self._answer()
        if self._state is not self._refusal:
            self._enter(RegistryState.IN_USE)

    def refused(self, error: UnauthorizedError) -> None:
        """Note that a login was refused, or is missing.

        After questions that were answered, a refusal that may be for one image alone is that.
        """
        self._answer()
        self._fail(error.reason)
        if error.certain or not self._served:
            self._served = False
            self._enter(self._refusal)

    def failed(self, error: UnreachableError, asked_at: float) -> None:
        """Note that a question of `asked_at` had no usable answer."""
        if error.fault is Fault.OWN:
            return
        if error.fault is Fault.ANSWERED:
            self._answer()
            self._enter(RegistryState.FAILING)
        else:
            self.breaker.failed(error.fault, error.reason, asked_at)
        self._fail(error.reason)

    def report(self) -> RegistryHealth:
        """Return it as of now."""
        now = self._clock()
        state, since, retry_in_s, reason = self._state, self._since, None, self._reason
        if self.breaker.state is not State.CLOSED:
            state, since = RegistryState.DOWN, self.breaker.down_since
            retry_in_s, reason = self.breaker.retry_in_s, self.breaker.reason
        return RegistryHealth(
            state=state,
            for_s=now - since,
            reason=reason,
            retry_in_s=retry_in_s,
            answered_ago_s=None if self._answered_at is None else now - self._answered_at,
            failed_ago_s=None if self._failed_at is None else now - self._failed_at,
        )

    def _answer(self) -> None:
        self.breaker.answered()
        self._answered_at = self._clock()

    def _fail(self, reason: str) -> None:
        self._reason = reason
        self._failed_at = self._clock()

    def _enter(self, state: RegistryState) -> None:
        if state is not self._state:
            self._state = state
            self._since = self._clock()
