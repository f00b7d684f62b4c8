"""Moments whose clock is set afterwards."""

from __future__ import annotations

import time
from unittest import mock

import pytest

from shimcore.images import moment
from shimcore.images.moment import NEVER, Moment, boot_id
from tests.support.clock import YEAR_S, set_by


@pytest.mark.parametrize("seconds", [YEAR_S, 5.0, -5.0, -YEAR_S])
def test_a_clock_that_is_set(seconds: float) -> None:
    """The moment by the new one; what came meanwhile may have a time by either."""
    before = Moment()
    with set_by(seconds):
        assert before.seconds == pytest.approx(before.at + seconds, abs=0.1)
        assert before.earliest == pytest.approx(before.at + min(0.0, seconds), abs=0.1)
        assert Moment().seconds >= before.seconds
        assert NEVER.seconds == NEVER.earliest == float("inf")


def test_a_clock_that_goes_on() -> None:
    """What lies between two readings is no setting of it."""
    before = Moment()
    with set_by(0.05):
        assert before.seconds == before.earliest == before.at


def test_a_node_that_slept() -> None:
    """Its clock has not been set."""
    before = Moment()
    slept = mock.Mock(wraps=time, CLOCK_BOOTTIME=time.CLOCK_BOOTTIME)
    slept.time = lambda: time.time() + 3600
    slept.clock_gettime = lambda clock: time.clock_gettime(clock) + 3600
    with mock.patch.object(moment, "time", slept):
        assert before.seconds == before.at


def test_this_boot() -> None:
    """The kernel's name for it."""
    assert len(boot_id()) == 36
