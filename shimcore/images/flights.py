"""Work that several callers share: started once, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0


class Flights(Generic[T]):
    """Single flight by key, in which one caller's cancellation does not reach the others."""

    def __init__(self) -> None:
        self._flights: dict[bytes | str, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: bytes | str, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `start()`, or of the flight with this key that is already on its way.

        The last caller to be cancelled takes the flight with it, at once.
        """
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = _Flight(asyncio.ensure_future(start()))
            self._flights[key] = flight
            flight.task.add_done_callback(_seen)
        flight.waiting += 1
        try:
            await asyncio.wait({flight.task})
            return flight.task.result()
        finally:
            flight.waiting -= 1
            if flight.task.done() or not flight.waiting:
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]


def _seen(task: asyncio.Task[Any]) -> None:
    """Takes note of the exception of a flight that nobody is left to hear."""
    if not task.cancelled():
        task.exception()
