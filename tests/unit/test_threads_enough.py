"""A process that cannot have the threads that gRPC starts says so, and leaves none."""

from __future__ import annotations

import os
import threading
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
    before = threading.active_count()
    start, left = threading.Thread.start, [error, *[None] * 2]

    def two(thread: threading.Thread) -> None:
        if (refused := left.pop()) is not None:
            raise refused
        start(thread)

    with (
        mock.patch.object(os, "cpu_count", return_value=processors),
        mock.patch.object(threading.Thread, "start", two),
        pytest.raises(ShimError) as told,
    ):
        need_threads()
    assert str(told.value).startswith(f"threads cannot be had (2 of {wanted}: {why}")
    assert str(told.value).endswith("see TasksMax= of the unit, pids.max of its cgroup, ulimit -u")
    assert threading.active_count() == before


def test_enough_threads() -> None:
    """They are gone again."""
    before = threading.active_count()
    need_threads()
    assert threading.active_count() == before
