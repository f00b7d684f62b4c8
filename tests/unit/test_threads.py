"""What is done beside the event loop ends no loop and holds up no process."""

from __future__ import annotations

import _thread
import asyncio
import subprocess
import sys
import threading
import time
from typing import NoReturn
from unittest import mock

import pytest

from shimcore import threads
from shimcore.threads import finish, in_thread, started

# A thread that nobody has an answer from, and one that needs a moment.
ENDS = """
import asyncio, sys, threading
from shimcore.threads import finish, in_thread

def write():
    threading.Event().wait(0.3)
    print("written", flush=True)

async def main():
    for work in (threading.Event().wait, write):
        asyncio.ensure_future(in_thread(work))
    await asyncio.sleep(0.05)

asyncio.run(main())
finish(0.6)
"""


async def test_what_the_work_gives() -> None:
    """Or raises."""

    def fail() -> NoReturn:
        raise OSError(5, "Input/output error")

    assert await in_thread(lambda: 7) == 7
    with pytest.raises(OSError, match="Input/output error"):
        await in_thread(fail)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_no_thread_for_it(error: Exception) -> None:
    """It is not done later, and the next has one."""
    done: list[int] = []
    with (
        mock.patch.object(_thread, "start_new_thread", side_effect=error),
        pytest.raises(RuntimeError, match=str(error) or "no memory is left"),
    ):
        await in_thread(lambda: done.append(1))
    await in_thread(lambda: done.append(2))
    assert done == [2]


async def test_no_memory_in_it() -> None:
    """As where no thread can be had."""
    with pytest.raises(RuntimeError, match="no memory is left"):
        await in_thread(mock.Mock(side_effect=MemoryError))


async def test_a_thread_that_gets_no_memory_to_begin(no_beginning: None) -> None:
    """It ends without a word: whoever waits for it hears of that."""
    with pytest.raises(RuntimeError, match="no memory is left"):
        await asyncio.wait_for(in_thread(lambda: 7), 5)
    finish(5)


async def test_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of once, and holds up nothing else."""
    monkeypatch.setattr(threads, "SILENT_S", 0.05)
    go_on, told = threading.Event(), mock.Mock()
    slow = [asyncio.ensure_future(in_thread(lambda: go_on.wait(10), told)) for _ in range(50)]
    await asyncio.sleep(0.2)
    assert await in_thread(lambda: 7, told) == 7
    assert told.call_count == len(slow)
    go_on.set()
    assert all(await asyncio.gather(*slow))
    assert told.call_count == len(slow)


def test_the_end_of_a_process() -> None:
    """It waits for work that ends, for a bounded time, and for no more."""
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "written\n", "")
    assert time.monotonic() - begun < 20


def test_a_lookup_is_not_waited_for() -> None:
    """A name server may take as long as it likes."""
    go_on = threading.Event()
    started(lambda: go_on.wait(10))
    begun = time.monotonic()
    finish(5)
    assert time.monotonic() - begun < 2
    go_on.set()
