"""One socket of a proxy connection: reading on demand, writing with pauses, half-close, the end."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import cast

# Chunks that are copied into one write; past this a copy costs more than a system call.
JOINED_BYTES = 16_384

# What is read at most of a peer that has closed: more than the kernel keeps of a unix socket.
REST_BYTES = 65_536
REST_READS = 16


class PeerSocket(asyncio.Protocol):
    """One of the two sockets of a proxy connection."""

    def __init__(
        self,
        on_bytes: Callable[[bytes], None],
        on_eof: Callable[[], None],
        on_lost: Callable[[], None],
        on_pace: Callable[[], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.full = False
        self.eof = False
        self.gone = False
        self.keeps_rest = False
        self.on_made: Callable[[], None] | None = None
        self._reading = True
        self._wrote_eof = False
        self.data_received = on_bytes  # type: ignore[assignment]
        self._on_eof = on_eof
        self._on_lost = on_lost
        self._on_pace = on_pace

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport; the client's side then goes to find its upstream."""
        self.transport = cast("asyncio.Transport", transport)
        if self.on_made is not None:
            self.on_made()

    def eof_received(self) -> bool:
        """The peer sends no more; our direction stays open until it has ended as well."""
        self.eof = True
        self._on_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone. With `keeps_rest` set, what the peer has said is still taken."""
        if exc is not None and self.transport is not None and self.keeps_rest:
            self._read_rest(self.transport.get_extra_info("socket").fileno())
        self.gone = True
        self.eof = True
        self._on_lost()

    def _read_rest(self, descriptor: int) -> None:
        """A write has failed since the peer has closed: the event loop reads no more then."""
        for _ in range(REST_READS):
            try:
                data = os.read(descriptor, REST_BYTES)
            except OSError:
                return
            if not data:
                return
            self.data_received(data)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self.full = True
        self._on_pace()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.full = False
        self._on_pace()

    def read(self, wanted: bool) -> None:
        """Take bytes from the peer, or leave them with it."""
        if self.transport is None or self.gone or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def hung_up(self) -> bool:
        """Whether the peer has closed, which is not seen otherwise while it is not read."""
        if self.transport is None or self.gone:
            return self.gone
        looking = select.poll()
        looking.register(self.transport.get_extra_info("socket").fileno(), 0)
        return bool(looking.poll(0))

    def write(self, chunks: list[bytes]) -> None:
        """Send to the peer: with one system call what is small, without a copy what is not."""
        if not chunks or self.transport is None or self.gone or self._wrote_eof:
            return
        if len(chunks) > 1 and sum(map(len, chunks)) <= JOINED_BYTES:
            chunks = [b"".join(chunks)]
        for chunk in chunks:
            if self.transport.is_closing():  # nothing goes out any more: asyncio says so each time
                return
            self.transport.write(chunk)

    def write_eof(self) -> None:
        """Tell the peer that no more comes."""
        if self.transport is not None and not self.gone and not self._wrote_eof:
            self._wrote_eof = True
            try:
                self.transport.write_eof()
            except OSError:  # the peer is gone altogether
                self.transport.abort()

    def close(self) -> None:
        """Close when what is buffered has gone out."""
        if self.transport is not None and not self.gone:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None and not self.gone:
            self.transport.abort()

    def let_go(self) -> None:
        """Hold nothing of the connection any more, which holds this."""
        self.on_made = None
        self.data_received = _ignored  # type: ignore[method-assign]
        self._on_eof = self._on_lost = self._on_pace = _nothing


def _nothing() -> None:
    pass


def _ignored(data: bytes) -> None:
    pass
