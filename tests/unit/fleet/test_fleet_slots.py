"""Slots: how many, whose, and when one may be taken."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.fleet.queue import Queue
from shimcore.fleet.records import Records, read_wanted
from shimcore.fleet.slots import (
    LEASE_S,
    WIDEST,
    Claim,
    ask_again_s,
    claim,
    width,
)
from shimcore.fleet.switchfiles import SwitchFiles
from shimcore.fleet.values import Lease, Wanted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
nodes = st.integers(1, 20_000)
percents = st.floats(0.1, 100)


@given(nodes, percents)
def test_one_at_a_time_until_enough_are_well(count: int, percent: float) -> None:
    """However large the cluster is, and whatever the wave says."""
    assert width(count, percent, enough=False) == 1


@given(nodes, percents)
def test_then_the_wave(count: int, percent: float) -> None:
    """That many percent of the nodes, rounded up; one at least, and no more than have names."""
    found = width(count, percent, enough=True)
    assert 1 <= found <= WIDEST
    assert found == WIDEST or found >= count * percent / 100
    assert found == 1 or found - 1 < count * percent / 100


@pytest.mark.parametrize(
    ("count", "slots"), [(3, 1), (20, 1), (21, 2), (100, 5), (1000, 50), (10_000, 64)]
)
def test_a_twentieth(count: int, slots: int) -> None:
    """Five percent of some clusters."""
    assert width(count, 5, enough=True) == slots


class Left(Records):
    """Of a fleet in which this worker is left, if any."""

    def __init__(self, worker: str | None) -> None:
        self._worker = worker

    async def first_left(self, wanted: Wanted, *, workers: bool = False) -> str | None:
        assert workers
        return self._worker


class Last(random.Random):
    """Draws the last one."""

    def randrange(self, start: int, *_: object) -> int:
        return start - 1


@given(st.booleans(), st.integers(1, WIDEST))
def test_control_planes_are_last(workers_left: bool, slots: int) -> None:
    """They wait for every worker, and then have the first slot alone."""
    records = Left("w1" if workers_left else None)
    queue = Queue(records, SwitchFiles(Path("/none")), "me", Last(), nodes=slots)
    wanted = read_wanted({"revision": "r1", "mode": "install", "wave": "100"})

    def candidate(*, control_plane: bool) -> int | None:
        queue.control_plane = control_plane
        return asyncio.run(queue._candidate(wanted, enough=True))

    assert candidate(control_plane=True) == (None if workers_left else 0)
    assert candidate(control_plane=False) == slots - 1


@given(
    st.sampled_from(["", "me", "other"]),
    st.integers(-3 * LEASE_S, 3 * LEASE_S),
    st.booleans(),
)
def test_nobody_takes_what_another_holds(holder: str, age_s: int, by_chance: bool) -> None:
    """A lease that is in force is its holder's; later it depends on why."""
    lease = Lease(0, "1", holder, NOW - timedelta(seconds=age_s), LEASE_S)
    found = claim(lease, "me", NOW, by_chance=by_chance)
    if holder != "other":
        assert found is Claim.TAKE
    elif abs(age_s) <= LEASE_S:
        assert found is Claim.WAIT
    elif not by_chance:
        assert found is Claim.HALT
    else:
        assert found is Claim.TAKE


def test_a_lease_without_a_time_is_over() -> None:
    """As one is that was never renewed."""
    assert Lease(0, "1", "other").expired(NOW)


@given(nodes)
def test_the_fleet_asks_at_one_pace(count: int) -> None:
    """25 looks a second at most, and a node no more often than every five seconds."""
    assert count / ask_again_s(count) <= 25.0001
    assert ask_again_s(count) >= 5
