"""Log lines that cannot be written are counted, and told of when they can."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from shimcore.daemon import logs
from shimcore.daemon.logs import Lines
from shimcore.daemon.outlet import Outlet


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
