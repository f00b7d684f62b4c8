"""Log lines that cannot be written are counted, and told of when they can."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from pathlib import Path

import pytest

from shimcore.daemon import logs
from shimcore.daemon.logs import Faults, Lines
from shimcore.daemon.outlet import Outlet
from shimcore.lines import Seldom
from tests.support.clock import Clock


async def test_a_disk_that_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a log to a file: how many lines are missing is said once, when there is room."""
    monkeypatch.setattr(logs, "_TELL_AGAIN_S", 0.01)
    fd = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(Outlet(fd))
    lines.setFormatter(logging.Formatter("%(message)s"))
    lines.serve_in(asyncio.get_running_loop())
    ours = logging.getLogger("shimcore")
    monkeypatch.setattr(ours, "handlers", [lines])
    try:
        for number in range(3):
            ours.error("line %d", number)
        await asyncio.sleep(0.1)
        assert lines.dropped == 3
        file = tmp_path / "log"
        with file.open("wb") as room:
            os.dup2(room.fileno(), fd)
        async with asyncio.timeout(5):
            while not file.read_text():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert file.read_text() == "3 log lines were dropped: they could not be written\n"
        assert lines.dropped == 3
    finally:
        os.close(fd)


async def test_faults_of_callbacks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each kind one is told a minute, with how many there were; of no memory no traceback."""
    clock, loop = Clock(), asyncio.get_running_loop()
    monkeypatch.setattr(logs, "Seldom", partial(Seldom, clock))
    loop.set_exception_handler(Faults().tell)

    def fail(error: Exception) -> None:
        raise error

    for _ in range(4):
        for error in (MemoryError(), KeyError("k"), MemoryError(), ValueError("v")):
            loop.call_soon(fail, error)
        await asyncio.sleep(0)
        clock.now += 30
    told = [(r.name, r.getMessage().split("\n")[0], r.exc_info or None) for r in caplog.records]
    for times in (1, 4):
        name, line, traced = told.pop(0)
        assert (name, traced) == ("shimcore.daemon", None)
        assert line.startswith(f"no memory is left: {times} connections or calls have ended for it")
        for kind in (KeyError, ValueError):
            name, line, traced = told.pop(0)
            assert name == "asyncio"
            assert traced is not None
            assert traced[0] is kind
            assert line.endswith(" (2 such since the last that was told)") == (times > 1)
    assert not told
