"""Turns of the event loop: what one connection sends never keeps another's from its turn.

A small chunk is gone through as it comes. A larger one is taken in slices; while some of it
is left its sender is not read, and everybody who has some left gets a slice in turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from shimcore.relay.limits import SLICE_FRAMES, SLICE_S, TURN_S


class Working(Protocol):
    """Somebody with more to do than fits a turn."""

    def go_on(self, until: float) -> bool:
        """Work up to that time of `now` or a little longer; whether there is more to do."""

    def broken(self, error: Exception) -> None:
        """It has raised that, and has no turn any more."""


class Turns:
    """Shares the event loop's turns among those who have much to do."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._waiting: deque[Working] = deque()
        self._left_s = TURN_S
        self._scheduled = False

    def ask(self, working: Working) -> None:
        """Have a slice worked at once, if this turn has time left, and the rest in later ones."""
        if self._left_s > 0 and not self._waiting:
            self._slice(working)
        else:
            self._waiting.append(working)
        self._schedule()

    def later(self, working: Working) -> None:
        """Have a slice worked in the next turn, and the rest in later ones."""
        self._waiting.append(working)
        self._schedule()

    def _slice(self, working: Working) -> None:
        began = self._now()
        try:
            if working.go_on(began + SLICE_S):
                self._waiting.append(working)
        except Exception as error:  # noqa: BLE001 - who has raised it tells
            working.broken(error)
        self._left_s -= self._now() - began

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """A new turn of the loop has begun."""
        self._scheduled = False
        self._left_s = TURN_S
        try:
            while self._waiting and self._left_s > 0:
                self._slice(self._waiting.popleft())
        finally:
            if self._waiting:
                self._schedule()


class Intake:
    """Chunks of one side that have been read and are not gone through yet."""

    __slots__ = ("_begun", "_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._begun = False  # the core has a part of one
        self.size = 0  # of those that it has not

    def __bool__(self) -> bool:
        return self._begun or bool(self._chunks)

    def add(self, data: bytes) -> None:
        """One more."""
        self._chunks.append(data)
        self.size += len(data)

    def begin(self) -> None:
        """The core has a part of a chunk that was not added here."""
        self._begun = True

    def step(self, feed: Callable[[bytes, int], bool], more: Callable[[int], bool]) -> None:
        """Have the next frames gone through: `feed` takes a chunk, `more` goes on with it.

        Both get a number of frames, and say whether there are more.
        """
        if self._begun:
            self._begun = more(SLICE_FRAMES)
            return
        data = self._chunks.popleft()
        self.size -= len(data)
        self._begun = feed(data, SLICE_FRAMES)

    def clear(self) -> None:
        """Nobody wants them any more."""
        self._chunks.clear()
        self._begun, self.size = False, 0
