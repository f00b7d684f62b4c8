"""What one connection takes of a budget is never another's share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from shimcore.heldcall import Decision, Forward
from shimcore.relay import work
from shimcore.relay.budget import Account, Budget


def test_a_share_is_there_when_the_common_part_is_gone() -> None:
    """Who is over its own is refused, and gets room when somebody gives some back."""
    budget = Budget(limit=100, share=10)
    greedy, modest = Account(budget), Account(budget)
    assert greedy.take(110)
    assert not greedy.take(1)
    assert modest.take(10)
    assert not modest.take(1)
    assert (budget.used, budget.pooled, greedy.used, modest.used) == (120, 100, 110, 10)
    greedy.change(-5)
    assert modest.take(5)
    assert not greedy.take(1)
    greedy.change(-105)
    modest.change(-15)
    assert (budget.used, budget.pooled) == (0, 0)


def test_who_is_within_its_share_is_not_over() -> None:
    """However much the others have taken without asking."""
    budget = Budget(limit=100, share=10)
    greedy, modest = Account(budget), Account(budget)
    greedy.change(500)
    modest.change(10)
    assert (greedy.over, modest.over) == (True, False)
    modest.change(1)
    assert modest.over


class Waiting:
    """A held call that is never decided on."""

    async def decide(self) -> Decision:
        await asyncio.Event().wait()
        return Forward(None)

    def finished(self, status: int, empty: bool, message: str) -> None:
        """Nothing is learnt from it."""


@pytest.fixture
def worker() -> Callable[[work.Slots], work.Worker]:
    return lambda slots: work.Worker(slots, lambda *_: None, lambda _: None)


async def test_each_connection_has_slots_that_others_cannot_take(
    worker: Callable[[work.Slots], work.Worker],
) -> None:
    """Calls over its share wait while the others have all of the rest; then they begin."""
    slots = work.Slots(each=8, limit=4, share=2)
    greedy, modest = worker(slots), worker(slots)
    for stream in range(10):
        greedy.start(stream, Waiting())
    assert slots.taken == 6
    for stream in range(3):
        modest.start(stream, Waiting())
    assert slots.taken == 8
    greedy.cancel(9)  # it has not begun
    greedy.cancel(0)
    await asyncio.sleep(0.01)
    assert slots.taken == 8
    for stream in range(1, 4):
        greedy.cancel(stream)
    await asyncio.sleep(0.01)
    assert slots.taken == 5 + 3
    greedy.cancel_all()
    modest.cancel_all()
    await asyncio.sleep(0.01)
    assert slots.taken == 0
    assert not greedy.busy
    for stream in range(20):
        modest.start(stream, Waiting())
    assert slots.taken == 6
    modest.cancel_all()
    await asyncio.sleep(0.01)
