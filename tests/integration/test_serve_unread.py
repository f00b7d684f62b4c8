"""`serve` whose log nobody reads: it goes on, counts what is lost, and says so later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shimcore.pb import cri_pb2
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import COMMAND, ServeProcess, wait_for

PULL = "/runtime.v1.ImageService/PullImage"
VERSION = "/runtime.v1.RuntimeService/Version"
PULLS = 1200


class Unread:
    """A shim whose standard error ends in a pipe or a socket that only the test reads."""

    def __init__(self, folder: Path, runtime: str, kind: str) -> None:
        self.shim = ServeProcess(folder, runtime, debug=True, metrics="0")
        self._reader: int
        self._kind = kind

    def start(self) -> None:
        environment = dict(os.environ)
        if self._kind == "pipe":
            self._reader, writer = os.pipe()
        else:  # as journald's
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            self._reader, writer = ours.detach(), theirs.detach()
            found = os.fstat(writer)
            environment["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        self.shim.process = subprocess.Popen(
            [*COMMAND, "-f", str(self.shim.file), "serve"], stderr=writer, env=environment
        )
        os.close(writer)
        wait_for(self._accepts, 20, lambda: "the shim does not serve")

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(self.shim.socket)
            return True
        return False

    def read(self, wanted: str, timeout_s: float) -> str:
        """Read until `wanted` has come."""
        os.set_blocking(self._reader, False)
        text, deadline = "", time.monotonic() + timeout_s
        while wanted not in text and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                text += os.read(self._reader, 1 << 20).decode()
                continue
            time.sleep(0.02)
        return text

    def close(self) -> None:
        self.shim.kill()
        os.close(self._reader)


@pytest.fixture(params=["pipe", "socket"])
def unread(
    runtime: ScriptedRuntime, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Unread]:
    found = Unread(tmp_path, runtime.socket_path, request.param)
    yield found
    found.close()


async def _pull(channel: grpc.aio.Channel, number: int) -> None:
    call: Any = channel.unary_unary(PULL)
    # Long names make long lines.
    image = cri_pb2.ImageSpec(image=f"127.0.0.1:9/{'a/' * 100}{'b' * 40}:{number}")
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call(cri_pb2.PullImageRequest(image=image).SerializeToString(), timeout=30)


async def test_a_log_that_is_not_read_stops_nothing(unread: Unread) -> None:
    """With `debug`, hundreds of pulls; calls are answered, what is lost is said when it is read."""
    await asyncio.to_thread(unread.start)
    took = []
    async with grpc.aio.insecure_channel(f"unix:{unread.shim.socket}") as channel:
        version: Any = channel.unary_unary(VERSION)
        for first in range(0, PULLS, 16):
            pulls = [_pull(channel, number) for number in range(first, first + 16)]
            waiting = asyncio.gather(*pulls)
            began = time.monotonic()
            await version(b"", timeout=10)
            took.append(time.monotonic() - began)
            await waiting
        text = await asyncio.to_thread(unread.read, "were dropped: they could not be written", 10)
    took.sort()
    print(f"Version: median {took[len(took) // 2] * 1e3:.1f} ms, longest {took[-1] * 1e3:.1f} ms")
    assert "log lines were dropped: they could not be written" in text
    assert took[-1] < 2
    # What did come came whole.
    lines = text.splitlines()
    assert all("127.0.0.1:9/" in line or len(line) < 500 for line in lines[:-1])


async def test_it_ends_when_it_is_asked_to(unread: Unread) -> None:
    """SIGTERM while nobody reads: status 0, and soon."""
    await asyncio.to_thread(unread.start)
    async with grpc.aio.insecure_channel(f"unix:{unread.shim.socket}") as channel:
        await asyncio.gather(*(_pull(channel, number) for number in range(PULLS)))
    unread.shim.signal(signal.SIGTERM)
    assert await asyncio.to_thread(unread.shim.wait, 15) == 0


def test_the_descriptors_of_others_stay_as_they_are() -> None:
    """Who shares the pipe finds it blocking, as it was; a file's end is where it was."""
    reader, writer = os.pipe()
    program = (
        "import logging; from shimcore.daemon import logs; logs.set_up(debug=False);"
        "logging.getLogger('shimcore').warning('a line')"
    )
    try:
        subprocess.run([sys.executable, "-c", program], stderr=writer, check=True)
        assert os.get_blocking(writer)
        assert b"a line\n" in os.read(reader, 1000)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_full_disk(tmp_path: Path) -> None:
    """It ends nothing; a log file is added to, not written over."""
    program = (
        "import logging; from shimcore.daemon import logs; logs.set_up(debug=False);"
        "[logging.getLogger('shimcore').warning('a line') for _ in range(3)]"
    )
    with open("/dev/full", "w") as full:
        subprocess.run([sys.executable, "-c", program], stderr=full, check=True)
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as added:
        subprocess.run([sys.executable, "-c", program], stderr=added, check=True)
    assert log.read_text().startswith("before\n")
    assert log.read_text().count("a line") == 3
