"""Connections with windows that are narrow or nearly full, on which something has to wait."""

from __future__ import annotations

from shimcore.relay import frames
from tests.support.wire import (
    DEFAULT,
    OTHER,
    RESPONSE,
    WINDOW,
    Frame,
    Wire,
    setting,
)

TABLE = frames.SETTINGS_HEADER_TABLE_SIZE


def narrow(wire: Wire, window: int) -> None:
    """The client's streams have small windows, and upstream knows it."""
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(WINDOW, window)))
    wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
    wire.to_client()
    wire.to_upstream()


def filled(wire: Wire, stream: int, left: int) -> None:
    """Upstream has sent another call's DATA, so that the client takes `left` bytes more."""
    wire.client(frames.window_update(stream, 1 << 20))
    wire.open(stream, OTHER)
    wire.headers(stream, RESPONSE)
    size = wire.core.replies.windows[1] - left
    while size:
        part = min(size, 16_384)
        wire.upstream(frames.frame(frames.DATA, 0, stream, bytes(part)))
        size -= part
    head, *_ = wire.to_client()
    wire.decoded(head.payload)
    wire.to_upstream()


def others_wait(wire: Wire) -> None:
    """A call that is not ours has DATA queued: 5 bytes have gone, 5 wait."""
    wire.core.forward(1, b"x" * (DEFAULT - 10))
    wire.open(3, OTHER)
    wire.data(3, b"0123456789", end=False)
    wire.to_upstream()


def trailers_wait(wire: Wire) -> None:
    """Two bytes of a call wait for its own window, and its trailers behind them."""
    wire.announce(WINDOW, 3)
    wire.acknowledge()
    wire.open(1)
    wire.data(1, b"\x07ab", end=False)
    wire.data(1, b"cd", end=False)
    block = wire.request_encoder.encode([(b"x-end", b"1")])
    wire.client(frames.frame(frames.HEADERS, 0x5, 1, block))


def kinds(sent: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.kind, frame.stream) for frame in sent]


def shrink(wire: Wire, size: int) -> None:
    """The client makes its table smaller, and upstream acknowledges that."""
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(TABLE, size)))
    wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
    wire.client_decoder.max_allowed_table_size = size
    wire.response_encoder.header_table_size = size
