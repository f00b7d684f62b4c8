"""Writing without waiting, on every kind of descriptor."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from shimcore.daemon.outlet import WAITING_BYTES, Outlet

LINE = b"x" * 999 + b"\n"


@pytest.fixture(params=["pipe", "stream", "polled pipe"])
def ends(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, Outlet]]:
    """The reader's descriptor, and what writes to it."""
    if request.param == "stream":
        ours, theirs = socket.socketpair()
        reader, writer = ours.detach(), theirs.detach()
    else:
        reader, writer = os.pipe()
    if request.param == "polled pipe":
        monkeypatch.setattr("shimcore.daemon.outlet._UNSHARED", os.O_DIRECTORY)
    os.set_blocking(reader, False)
    outlet = Outlet(writer)
    yield reader, outlet
    assert os.get_blocking(writer)
    outlet.close()
    os.close(reader)
    os.close(writer)


def read_all(reader: int) -> bytes:
    text = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(reader, 1 << 20):
            text += chunk
    return text


def test_a_reader_that_comes_back(ends: tuple[int, Outlet]) -> None:
    """What was kept comes whole and in order; what was dropped is counted; no line is torn."""
    reader, tried = ends
    count = 0
    while not tried.dropped:
        tried.write(b"%09d" % count + LINE)
        count += 1
    text = b""
    while tried.waiting:
        text += read_all(reader)
        tried.flush()
    text += read_all(reader)
    lines = text.splitlines()
    assert [int(line[:9]) for line in lines] == list(range(count - 1))
    assert all(len(line) == 9 + 999 for line in lines)
    assert tried.dropped == 1
    tried.write(LINE)
    assert read_all(reader) == LINE


def test_what_waits_is_bounded(ends: tuple[int, Outlet]) -> None:
    """A line longer than all that may wait is dropped, others then still come."""
    reader, tried = ends
    tried.write(b"y" * (WAITING_BYTES + 1))
    assert tried.dropped == 1
    tried.write(LINE)
    assert read_all(reader) == LINE


def test_a_reader_that_is_gone(ends: tuple[int, Outlet]) -> None:
    """Lines are counted as dropped, and nothing is raised or kept."""
    reader, tried = ends
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)
    for _ in range(3):
        tried.write(LINE)
    assert tried.dropped == 3
    assert not tried.waiting


def test_a_disk_that_is_full_in_the_middle_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The half of it stays; what comes when there is room begins on a line of its own."""
    disk, room = bytearray(), [5, 0, 0, 100, 100]

    def write(line: memoryview) -> int:
        taken = min(len(line), room.pop(0))
        disk.extend(line[:taken])
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return taken

    with open("/dev/null", "wb") as file:
        outlet = Outlet(file.fileno())
    monkeypatch.setattr(outlet, "_write", write)
    for line in (b"line one\n", b"line two\n", b"line three\n", b"line four\n"):
        outlet.write(line)
    assert disk == b"line \nline three\nline four\n"
    assert outlet.dropped == 2
