"""What a successor is started with, whatever becomes of the hand-over meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from shimcore.daemon import handover
from tests.support.polling import until


async def test_a_stop_while_a_successor_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is given stays open until it has it, and is closed then; its channel has an end."""
    stopped, given = threading.Event(), list[bool]()

    def run(*_: object, stdin: int, stdout: int, **__: object) -> None:
        stopped.wait()
        given.extend(stat.S_ISSOCK(os.fstat(each).st_mode) for each in (stdin, stdout))
        assert os.read(stdout, 1) == b""

    monkeypatch.setattr(subprocess, "run", run)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        starting = asyncio.ensure_future(handover._start("next", listening))
        await asyncio.sleep(0.05)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    stopped.set()
    await until(lambda: given == [True, True], "it was not given sockets")
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors are kept open")
