"""The arithmetic of many nodes, on the delays that are really drawn."""

from __future__ import annotations

import random
from statistics import mean

from shimcore.cluster.pace import Pace

NODES = 10_000


def paces() -> list[Pace]:
    return [Pace(random.Random(seed)) for seed in range(NODES)]


def test_steady_watches() -> None:
    """10,000 nodes with two watches each ask about 7.4 times a second."""
    rate = 2 * NODES / mean(pace.watch() for pace in paces())
    assert 7.2 < rate < 7.6


def test_nobody_comes_together() -> None:
    """After an event that all see, no second of the 30 has twice its share."""
    seconds = [0] * 30
    for pace in paces():
        seconds[int(pace.retry(1))] += 1
    assert max(seconds) < 2 * NODES / 30


def test_away_for_long() -> None:
    """The pause grows to between 150 and 300 s and no further, however long it lasts."""
    for failures in (6, 60, 6000):
        delays = [pace.retry(failures) for pace in paces()[:1000]]
        assert min(delays) >= 150
        assert max(delays) <= 300
        assert 215 < mean(delays) < 235


def test_refused() -> None:
    """A server that says no is asked less and less, down to once in 450 to 900 s."""
    one = Pace(random.Random(1))
    assert 60 <= one.refused(1) <= 120
    assert 450 <= one.refused(1000) <= 900


def test_start() -> None:
    """Who has a kept copy can wait longer than who knows nothing."""
    assert max(pace.start(known=True) for pace in paces()[:500]) > 25
    assert max(pace.start(known=False) for pace in paces()[:500]) <= 3
