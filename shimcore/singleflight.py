"""Single flight: those who want the same at the same time share one piece of work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from shimcore.errors import ShimError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def heard(task: asyncio.Future[Any]) -> None:
    """Takes note of how a task ended, as its done callback: nobody may be left to hear of it."""
    if not task.cancelled():
        task.exception()


class FlightCancelledError(ShimError):
    """The work was cancelled from outside, not by those who wait for it."""


class _Flight(Generic[V]):
    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters = 0


class SingleFlight(Generic[K, V]):
    """Work under way, by key. A cancelled waiter leaves; the last one to leave ends the work."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: object) -> bool:
        return key in self._flights

    async def run(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of `start()`, or of the work with that key that is under way.

        Raises what the work raises, and FlightCancelledError after `cancel_all`.
        """
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = self._launch(key, start())
        flight.waiters += 1
        try:
            # Unlike awaiting the task, wait() does not pass a waiter's cancellation on to it.
            await asyncio.wait({flight.task})
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise FlightCancelledError
        return flight.task.result()

    async def cancel_all(self) -> None:
        """End all work and wait until it has ended."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _launch(self, key: K, work: Coroutine[Any, Any, V]) -> _Flight[V]:
        flight = _Flight(asyncio.ensure_future(work))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: K, flight: _Flight[V]) -> None:
        """Take a flight off the table, unless a later one has its key."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done():
            heard(flight.task)
