"""The circuit breaker, under a clock of the test's own."""

from __future__ import annotations

import pytest

from shimcore.registry.errors import Fault
from shimcore.registry.health import LONGEST_PERIOD_S, Breaker, State
from tests.support.clock import Clock


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """A breaker without jitter."""
    return Breaker(clock, lambda: 0.5)


def fail(breaker: Breaker, clock: Clock, fault: Fault = Fault.CONNECT) -> None:
    breaker.failed(fault, "refused the connection", clock.now)


def test_opens_at_the_first_refused_connection(breaker: Breaker, clock: Clock) -> None:
    """A connection that cannot be made is proof enough."""
    fail(breaker, clock)
    assert breaker.state is State.OPEN
    assert not breaker.lets_through


def test_opens_at_the_second_silence_in_a_row(breaker: Breaker, clock: Clock) -> None:
    """One slow answer is not proof; an answer in between starts the count again.

    Two may be of two images that come from somewhere else: the first trial is due at once, and
    the next after a period.
    """
    fail(breaker, clock, Fault.SILENT)
    breaker.answered()
    fail(breaker, clock, Fault.SILENT)
    assert breaker.lets_through
    fail(breaker, clock, Fault.SILENT)
    assert breaker.state is State.HALF_OPEN
    breaker.begin_trial()
    fail(breaker, clock, Fault.SILENT)
    assert not breaker.trial_is_due()
    clock.now += 1
    assert breaker.trial_is_due()


def test_the_trial_is_due_after_the_period(breaker: Breaker, clock: Clock) -> None:
    """Half a second at first; one trial at a time."""
    fail(breaker, clock)
    clock.now += 0.49
    assert not breaker.trial_is_due()
    clock.now += 0.02
    assert breaker.trial_is_due()
    assert breaker.state is State.HALF_OPEN
    breaker.begin_trial()
    assert not breaker.trial_is_due()
    assert not breaker.lets_through


def test_an_answered_trial_closes(breaker: Breaker, clock: Clock) -> None:
    """The registry is used again, and the next failure starts at the first period."""
    for _ in range(3):
        fail(breaker, clock)
        clock.now += 10
        breaker.begin_trial()
    breaker.answered()
    assert breaker.state is State.CLOSED
    fail(breaker, clock)
    clock.now += 0.51
    assert breaker.trial_is_due()


def test_the_period_doubles_up_to_five_seconds(breaker: Breaker, clock: Clock) -> None:
    """0.5, 1, 2, 4, 5, 5 s: a hub that came back waits for no more than that."""
    fail(breaker, clock)
    periods = []
    for _ in range(6):
        start = clock.now
        while not breaker.trial_is_due():
            clock.now += 0.125
        periods.append(clock.now - start)
        breaker.begin_trial()
        fail(breaker, clock)
    assert periods == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.999])
def test_jitter_spreads_the_period(clock: Clock, draw: float) -> None:
    """The first period is between 0.4 and 0.6 s, and none is above the longest."""
    breaker = Breaker(clock, lambda: draw)
    fail(breaker, clock)
    clock.now += 0.39
    assert not breaker.trial_is_due()
    clock.now += 0.22
    assert breaker.trial_is_due()
    for _ in range(9):
        breaker.begin_trial()
        fail(breaker, clock)
        clock.now += LONGEST_PERIOD_S
        assert breaker.trial_is_due()


def test_a_late_answer_closes_at_once(breaker: Breaker, clock: Clock) -> None:
    """A question asked before that succeeds ends the open period."""
    fail(breaker, clock)
    breaker.answered()
    assert breaker.lets_through


def test_a_timeout_from_before_the_recovery_does_not_reopen(breaker: Breaker, clock: Clock) -> None:
    """A question asked while it was dead tells nothing about the time after its answer."""
    asked_at = clock.now
    fail(breaker, clock)
    clock.now += 2
    breaker.answered()
    clock.now += 1
    breaker.failed(Fault.CONNECT, "no connection in time", asked_at)
    assert breaker.lets_through


def test_an_old_failure_does_not_end_a_trial(breaker: Breaker, clock: Clock) -> None:
    """Only the trial itself decides."""
    asked_at = clock.now
    fail(breaker, clock)
    clock.now += 1
    breaker.begin_trial()
    breaker.failed(Fault.CONNECT, "no connection in time", asked_at)
    assert breaker.state is State.HALF_OPEN


def test_an_abandoned_trial_can_be_taken_up_again(breaker: Breaker, clock: Clock) -> None:
    """A trial that was cancelled leaves the breaker open, its period over."""
    fail(breaker, clock)
    clock.now += 1
    breaker.begin_trial()
    breaker.abandon_trial()
    assert breaker.trial_is_due()


def test_the_refusal_says_since_when_and_why(breaker: Breaker, clock: Clock) -> None:
    """What is told for a question that was not asked."""
    fail(breaker, clock)
    clock.now += 0.3
    assert breaker.refusal() == "not asked: it failed 0.3 s ago (refused the connection)"
