"""A worker does one piece after the other, and nothing waits for a disk that hangs."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from functools import partial
from unittest import mock

import pytest

from shimcore import threads
from shimcore.threads import Worker, finish


async def test_one_after_the_other() -> None:
    """In one thread that is not the loop's, which no process waits for; what fails is raised."""
    worker = Worker()
    done: list[int] = []
    await asyncio.gather(*(worker.do(partial(done.append, n)) for n in range(9)))
    assert done == list(range(9))
    assert await worker.do(threading.get_ident) != threading.get_ident()
    finish(0)
    with pytest.raises(ZeroDivisionError):
        await worker.do(lambda: 1 // 0)


async def test_no_memory_for_a_piece() -> None:
    """It is told as everywhere beside the loop, and the next piece is done."""
    worker = Worker()
    with pytest.raises(RuntimeError, match="no memory is left"):
        await worker.do(mock.Mock(side_effect=MemoryError))
    assert await worker.do(lambda: 1) == 1


async def test_it_ends_with_who_has_it() -> None:
    """Nobody can give it work any more."""
    worker = Worker()
    await worker.do(lambda: None)
    thread = worker._thread
    assert thread is not None
    del worker
    gc.collect()
    await asyncio.wait_for(asyncio.wrap_future(thread), 5)


async def test_a_thread_that_gets_no_memory_to_begin(no_beginning: None) -> None:
    """What waits for it is not done; the next has another."""
    worker, done = Worker(), list[int]()
    with pytest.raises(RuntimeError, match="no memory is left"):
        await asyncio.wait_for(worker.do(partial(done.append, 1)), 5)
    await asyncio.wait_for(worker.do(partial(done.append, 2)), 5)
    assert done == [2]


async def test_a_bound_on_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits for any more is not begun, and waits all the same."""
    monkeypatch.setattr(threads, "WAITING_LIMIT", 2)
    worker, answers = Worker(), threading.Event()
    done: list[int] = []
    hung = asyncio.ensure_future(worker.do(lambda: answers.wait(20)))
    while worker._jobs.qsize() or worker._thread is None:
        await asyncio.sleep(0)
    for n in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.do(partial(done.append, n)), 0.01)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="the disk does not answer"):
        await worker.do(lambda: done.append(2))
    assert time.monotonic() - began < 1
    answers.set()
    assert await hung
    await asyncio.sleep(0.05)
    await worker.do(lambda: done.append(3))
    assert done == [3]
