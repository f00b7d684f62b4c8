"""What is told of a registry, under a clock of the test's own."""

from __future__ import annotations

import pytest

from shimcore.registry.answers import RegistryState
from shimcore.registry.condition import Condition
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError
from shimcore.registry.health import Breaker, State
from tests.support.clock import Clock


@pytest.fixture
def condition(clock: Clock) -> Condition:
    return Condition(Breaker(clock, lambda: 0.5), clock, login=True)


def refusal(*, certain: bool) -> UnauthorizedError:
    return UnauthorizedError("hub", "the login was refused (401)", certain=certain)


def failure(fault: Fault) -> UnreachableError:
    return UnreachableError("hub", "no connection", fault)


def test_from_the_start_nothing_is_known(condition: Condition, clock: Clock) -> None:
    """Not asked yet, which is not a fault."""
    clock.now += 3
    health = condition.report()
    assert (health.state, health.for_s, health.reason) == (RegistryState.NOT_ASKED, 3, "")
    assert (health.retry_in_s, health.answered_ago_s, health.failed_ago_s) == (None, None, None)
    assert health.state.usable


def test_in_use(condition: Condition, clock: Clock) -> None:
    """Since the first answer, not the last."""
    condition.served()
    clock.now += 5
    condition.served()
    clock.now += 1
    health = condition.report()
    assert (health.state, health.for_s, health.answered_ago_s) == (RegistryState.IN_USE, 6, 1)


def test_down_since_and_when_it_is_tried_again(condition: Condition, clock: Clock) -> None:
    """From the question that failed first, over every trial that failed after it."""
    condition.served()
    clock.now += 10
    condition.failed(failure(Fault.CONNECT), clock.now)
    clock.now += 0.25
    assert condition.report().retry_in_s == 0.25
    clock.now += 0.25
    condition.breaker.begin_trial()
    assert condition.report().retry_in_s == 0
    clock.now += 0.25
    condition.failed(failure(Fault.CONNECT), clock.now - 0.25)
    clock.now += 0.5
    health = condition.report()
    assert (health.state, health.retry_in_s) == (RegistryState.DOWN, 0.5)
    assert (health.reason, health.for_s) == ("no connection", 1.25)
    assert (health.failed_ago_s, health.answered_ago_s) == (0.5, 11.25)
    assert not health.state.usable
    condition.served()
    assert condition.report().state is RegistryState.IN_USE


def test_a_refused_login_is_remembered_until_a_success(condition: Condition) -> None:
    """Also where it was taken before: passwords are changed."""
    condition.served()
    condition.refused(refusal(certain=True))
    assert condition.report().state is RegistryState.LOGIN_REFUSED
    assert condition.report().reason == "the login was refused (401)"
    condition.refused(refusal(certain=False))
    assert condition.report().state is RegistryState.LOGIN_REFUSED
    condition.served()
    health = condition.report()
    assert (health.state, health.reason) == (RegistryState.IN_USE, "the login was refused (401)")


def test_one_image_that_may_not_be_read_is_not_the_login(condition: Condition) -> None:
    """After questions that were answered; with none, it is all that is known."""
    condition.refused(refusal(certain=False))
    assert condition.report().state is RegistryState.LOGIN_REFUSED
    condition.served()
    condition.refused(refusal(certain=False))
    assert condition.report().state is RegistryState.IN_USE


def test_without_a_login_it_is_missing(clock: Clock) -> None:
    """What to mend differs."""
    condition = Condition(Breaker(clock, lambda: 0.5), clock, login=False)
    condition.refused(refusal(certain=False))
    assert condition.report().state is RegistryState.LOGIN_MISSING


def test_answers_with_errors(condition: Condition) -> None:
    """It is there, and of no use; the breaker stays closed."""
    condition.failed(failure(Fault.ANSWERED), 100)
    assert condition.report().state is RegistryState.FAILING
    assert condition.breaker.state is State.CLOSED


def test_an_error_status_is_an_answer(condition: Condition) -> None:
    """A registry that answers 500 is not dead: the count of its silences starts again."""
    condition.failed(failure(Fault.SILENT), 100)
    condition.failed(failure(Fault.ANSWERED), 100)
    condition.failed(failure(Fault.SILENT), 100)
    assert condition.breaker.lets_through


def test_our_own_shortage_tells_nothing(condition: Condition) -> None:
    """No descriptor left, all connections busy: not the registry's failure, nor its answer."""
    condition.served()
    condition.failed(failure(Fault.SILENT), 100)
    before = condition.report()
    condition.failed(failure(Fault.OWN), 100)
    assert condition.report() == before
    condition.failed(failure(Fault.SILENT), 100)
    assert condition.report().state is RegistryState.DOWN
