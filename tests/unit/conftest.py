"""Threads that end before they have begun."""

from __future__ import annotations

import _thread
from collections.abc import Callable

import pytest


@pytest.fixture
def no_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next thread gets no memory to call what it was started for."""
    start, left = _thread.start_new_thread, [1]

    def begin(do: Callable[[], object], given: tuple[()]) -> int:
        return start(lambda _: None, (do,)) if left and left.pop() else start(do, given)

    monkeypatch.setattr(_thread, "start_new_thread", begin)
