"""Single flight."""

from __future__ import annotations

import asyncio

import pytest

from shimcore.singleflight import FlightCancelledError, SingleFlight


class Question:
    """Something to ask that counts how often it was asked, and ends when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.asked


async def test_waiters_share_one_asking() -> None:
    """All get the one answer; the next question asks again."""
    flights, question = SingleFlight[str, int](), Question()
    waiters = [asyncio.create_task(flights.run("k", question.ask)) for _ in range(50)]
    await asyncio.sleep(0)
    question.go.set()
    assert await asyncio.gather(*waiters) == [1] * 50
    assert await flights.run("k", question.ask) == 2


async def test_a_cancelled_waiter_leaves_the_others_their_answer() -> None:
    """Cancellation is the waiter's own, even that of the one who started the flight."""
    flights, question = SingleFlight[str, int](), Question()
    first = asyncio.create_task(flights.run("k", question.ask))
    second = asyncio.create_task(flights.run("k", question.ask))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    question.go.set()
    assert await second == 1
    assert question.cancelled == 0


async def test_the_last_waiter_to_leave_ends_the_flight() -> None:
    """Nobody is left to want the answer; who comes then starts anew."""
    flights, question = SingleFlight[str, int](), Question()
    waiters = [asyncio.create_task(flights.run("k", question.ask)) for _ in range(2)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    late = asyncio.create_task(flights.run("k", question.ask))
    await asyncio.sleep(0.01)
    assert (question.asked, question.cancelled) == (2, 1)
    question.go.set()
    assert await late == 2


async def test_an_error_reaches_every_waiter() -> None:
    """What the asking raises, each of them raises."""

    async def fail() -> int:
        await asyncio.sleep(0)
        raise LookupError

    flights = SingleFlight[str, int]()
    results = await asyncio.gather(
        *(flights.run("k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError] * 3


async def test_ending_all_flights_does_not_look_like_the_waiters_own_cancellation() -> None:
    """A waiter that nobody cancelled gets an error that it can tell apart."""
    flights, question = SingleFlight[str, int](), Question()
    waiter = asyncio.create_task(flights.run("k", question.ask))
    await asyncio.sleep(0)
    await flights.cancel_all()
    with pytest.raises(FlightCancelledError):
        await waiter


async def test_a_new_waiter_does_not_join_work_that_is_ending() -> None:
    """After the last waiter was cancelled, the key is free at once."""
    flights = SingleFlight[str, str]()

    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            raise
        return "late"

    async def quick() -> str:
        return "new"

    first = asyncio.create_task(flights.run("k", stubborn))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait({first})
    assert await flights.run("k", quick) == "new"
    assert len(flights) == 0
