"""A process that cannot have the threads that gRPC starts says so, and leaves none."""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable
from unittest import mock

import pytest

from shimcore.errors import ShimError
from shimcore.threads import need_threads


@pytest.mark.parametrize(("processors", "wanted"), [(None, 7), (2, 7), (8, 11), (64, 19)])
@pytest.mark.parametrize(
    ("error", "why"),
    [(RuntimeError("can't start new thread"), "can't start new thread"), (MemoryError(), "no mem")],
)
def test_too_few_threads(processors: int | None, wanted: int, error: Exception, why: str) -> None:
    """How many could be had, of how many, and where that is limited."""
    before = _thread._count()
    start, left = _thread.start_new_thread, [error, *[None] * 2]

    def two(do: Callable[[], object], given: tuple[()]) -> int:
        if (refused := left.pop()) is not None:
            raise refused
        return start(do, given)

    with (
        mock.patch.object(os, "cpu_count", return_value=processors),
        mock.patch.object(_thread, "start_new_thread", two),
        pytest.raises(ShimError) as told,
    ):
        need_threads()
    assert str(told.value).startswith(f"threads cannot be had (2 of {wanted}: {why}")
    assert str(told.value).endswith("see TasksMax= of the unit, pids.max of its cgroup, ulimit -u")
    assert _thread._count() == before


def test_enough_threads() -> None:
    """They are gone again."""
    before = _thread._count()
    need_threads()
    assert _thread._count() == before


def test_a_thread_that_gets_no_memory_to_begin(no_beginning: None) -> None:
    """Nobody waits for it."""
    begun = time.monotonic()
    need_threads()
    assert time.monotonic() - begun < 20
