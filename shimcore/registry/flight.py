"""Single flight: those who ask the same thing at the same time share one asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FlightCancelledError(Exception):
    """The flight was cancelled from outside, not by its waiters."""


class _Flight(Generic[V]):
    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters = 0


class Flights(Generic[K, V]):
    """Flights in the air, by key. A cancelled waiter leaves; the last one to leave ends it."""

    def __init__(self) -> None:
        self._flying: dict[K, _Flight[V]] = {}

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Wait for the flight of that key, starting one if there is none.

        Raises what `start` raises, and FlightCancelledError after `cancel_all`.
        """
        flight = self._flying.get(key)
        if flight is None:
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
        """End every flight and wait until they have ended."""
        tasks = [flight.task for flight in self._flying.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _launch(self, key: K, asking: Coroutine[Any, Any, V]) -> _Flight[V]:
        flight = _Flight(asyncio.create_task(asking))
        self._flying[key] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: K, flight: _Flight[V]) -> None:
        """Take a flight off the table, unless a later one has its key."""
        if self._flying.get(key) is flight:
            del self._flying[key]
