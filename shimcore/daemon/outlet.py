"""A descriptor that is written to without ever waiting for its reader.

O_NONBLOCK would do, but belongs to the open file description, which others share: the shell's
terminal, the next program in a pipeline. So each kind of descriptor has its own way.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable

# What may wait for a reader who is slow for a moment; a line over it is dropped.
WAITING_BYTES = 256 * 1024
# poll(2) says of a pipe that it takes as much (pipe(7), PIPE_BUF).
_POLLED_BYTES = 4096

# An open file description of our own, for the same pipe or terminal.
_UNSHARED = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Write = Callable[[memoryview], int]


class Outlet:
    """Takes whole lines; what nobody reads in time is dropped whole and counted."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        self._write, self.close = _writer(fd)
        self._lines: deque[memoryview] = deque()
        self._bytes = 0
        self._torn = False  # what has been written ends in the middle of a line

    @property
    def waiting(self) -> bool:
        """Whether something has not been taken yet."""
        return bool(self._lines)

    def write(self, line: bytes) -> None:
        """Write it, or keep it for `flush`, or drop it."""
        if self._torn and not self._lines:
            line = b"\n" + line
        if self._bytes + len(line) > WAITING_BYTES:
            self.flush()
            if self._bytes + len(line) > WAITING_BYTES:
                self.dropped += 1
                return
        self._lines.append(memoryview(line))
        self._bytes += len(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as it is taken now."""
        while self._lines:
            line = self._lines[0]
            try:
                taken = self._write(line)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the reader is gone for good, or the disk is full
                self.dropped += len(self._lines)
                self._lines.clear()
                self._bytes = 0
                return
            self._bytes -= taken
            self._torn = taken < len(line)
            if not self._torn:
                self._lines.popleft()
            else:
                self._lines[0] = line[taken:]


def _writer(fd: int) -> tuple[Write, Callable[[], None]]:
    """The way to write to `fd` that does not wait but raises BlockingIOError; how to end it."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):
        connection = socket.socket(fileno=os.dup(fd))
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        return lambda line: connection.send(line, flags), connection.close
    if stat.S_ISFIFO(kind) or os.isatty(fd):
        with contextlib.suppress(OSError):  # no /proc, or it belongs to somebody else
            own = os.open(f"/proc/self/fd/{fd}", _UNSHARED)
            return lambda line: os.write(own, line), lambda: os.close(own)
    if stat.S_ISREG(kind):
        return lambda line: os.write(fd, line), _nothing
    return _polled(fd), _nothing


def _nothing() -> None:
    """There is nothing of its own to close."""


def _polled(fd: int) -> Write:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(line: memoryview) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(fd, line[:_POLLED_BYTES])

    return write
