"""h2 endpoints for conversations through the relay, and odd but legal ways to frame."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import h2.connection
import h2.events
import h2.windows
from h2.config import H2Configuration

from shimcore.relay import frames


class _Window(h2.windows.WindowManager):
    """h2's, but a DATA frame without bytes is legal while the window is below zero."""

    def window_consumed(self, size: int) -> None:
        if size:
            super().window_consumed(size)


class Endpoint(h2.connection.H2Connection):
    """An h2 endpoint that, like grpc-go, ignores late frames of calls refused to it."""

    def __init__(self, *, client: bool) -> None:
        super().__init__(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.forgotten: set[int] = set()

    def _stream_is_closed_by_reset(self, stream_id: int) -> bool:
        return stream_id in self.forgotten or super()._stream_is_closed_by_reset(stream_id)

    def receive_data(self, data: Any) -> list[h2.events.Event]:
        """h2's, but of several table sizes the encoder announces the smallest and the last.

        Left alone, hpack announces all, those that hold no more included, and none at all
        when the last one came twice (RFC 7541 §4.2).
        """
        events = super().receive_data(data)
        changes = self.encoder.table_size_changes
        if len(changes) > 1:
            smallest, last = min(changes), changes[-1]
            changes[:] = [smallest, last] if smallest < last else [last]
        self.encoder.header_table.resized = bool(changes)
        return events

    def _local_settings_acked(self) -> Any:
        """h2's, but a larger frame may follow the ACK in the same chunk."""
        changes = super()._local_settings_acked()
        self.incoming_buffer.max_frame_size = self.max_inbound_frame_size
        return changes

    def _begin_new_stream(self, stream_id: int, allowed_ids: Any) -> Any:
        stream = super()._begin_new_stream(stream_id, allowed_ids)
        manager = stream._inbound_window_manager
        manager.__class__ = _Window
        return stream


def reframe(rng: random.Random, data: bytes, *, client: bool) -> bytes:
    """Split header blocks into CONTINUATION frames, pad them, give them priorities."""
    out = bytearray()
    position = 0
    if data.startswith(frames.PREFACE):
        out += frames.PREFACE
        position = len(frames.PREFACE)
    while position < len(data):
        high, low, kind, flags, stream = frames.FRAME_HEADER.unpack_from(data, position)
        end = position + 9 + (high << 8 | low)
        if kind == frames.HEADERS and rng.random() < 0.5:
            block = frames.header_fragment(data, position + 9, end, flags)
            out += _headers(rng, stream, flags & frames.END_STREAM, block, client=client)
        else:
            out += data[position:end]
        position = end
    return bytes(out)


def _headers(rng: random.Random, stream: int, flags: int, block: bytes, *, client: bool) -> bytes:
    pieces = _pieces(rng, block, rng.randint(1, 4))
    payload = pieces[0]
    if client and rng.random() < 0.3:
        flags |= frames.PRIORITY_FLAG
        payload = b"\0\0\0\0\x10" + payload
    if payload and rng.random() < 0.3:
        padding = rng.randint(0, 20)
        flags |= frames.PADDED
        payload = bytes([padding]) + payload + bytes(padding)
    last = len(pieces) - 1
    out = frames.frame(
        frames.HEADERS, flags | (frames.END_HEADERS if not last else 0), stream, payload
    )
    for number, piece in enumerate(pieces[1:], 1):
        done = frames.END_HEADERS if number == last else 0
        out += frames.frame(frames.CONTINUATION, done, stream, piece)
    return out


def _pieces(rng: random.Random, data: bytes, count: int) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(data)) for _ in range(count - 1))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges)]
