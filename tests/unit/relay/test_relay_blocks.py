"""Header blocks: how large they may be, and that every one is decoded."""

from __future__ import annotations

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import CallEnded, Notice
from shimcore.relay.limits import HEADER_BLOCK_BYTES
from tests.support.wire import OTHER, PULL, Frame, Wire, message, setting


def block_frames(stream: int, block: bytes, size: int) -> list[bytes]:
    """A header block in frames of a size."""
    pieces = [block[at : at + size] for at in range(0, len(block), size)]
    kinds = [frames.HEADERS] + [frames.CONTINUATION] * (len(pieces) - 1)
    ends = [0] * (len(pieces) - 1) + [frames.END_HEADERS]
    return [
        frames.frame(kind, end, stream, piece)
        for kind, end, piece in zip(kinds, ends, pieces, strict=True)
    ]


def long_block(length: int) -> bytes:
    """A block of exactly so many bytes that opens a call: one literal with a long value."""
    start = b"\x04" + bytes([len(PULL)]) + PULL + b"\x00\x01x"
    value = length - len(start) - 4
    rest = value - 127
    prefix = bytes([0x7F, rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14])
    return start + prefix + b"v" * value


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_header_block_of_1_mib_passes(side: str) -> None:
    """kubelet's metadata can be large."""
    wire = Wire()
    block = long_block(HEADER_BLOCK_BYTES)
    for frame in block_frames(1, block, 16_384):
        getattr(wire, side)(frame)
    sent = wire.to_upstream() if side == "client" else wire.to_client()
    assert b"".join(frame.payload for frame in sent) == block
    assert all(isinstance(event, Notice) for event in wire.events())  # of its metadata
    if side == "client":
        assert wire.core.live == {1: PULL}


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_larger_header_block_is_enhance_your_calm(side: str) -> None:
    """Also when its frames never end."""
    wire = Wire()
    *first, last = block_frames(1, bytes(HEADER_BLOCK_BYTES + 1), 16_384)
    for frame in first:
        getattr(wire, side)(frame)
    with pytest.raises(FrameError) as caught:
        getattr(wire, side)(last)
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.parametrize("kind", [frames.HEADERS, frames.CONTINUATION])
def test_a_larger_header_frame_is_not_waited_for(side: str, kind: int) -> None:
    """Its length is enough to tell."""
    wire = Wire()
    if kind == frames.CONTINUATION:
        getattr(wire, side)(frames.frame(frames.HEADERS, 0, 1, b"\x88"))
    with pytest.raises(FrameError) as caught:
        getattr(wire, side)(frames.frame(kind, 4, 1, bytes(HEADER_BLOCK_BYTES + 1))[:9])
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_every_block_is_decoded() -> None:
    """A call that is not ours may have put into the table what an opened one refers to."""
    wire = Wire()
    wire.open(1, OTHER, (b"grpc-timeout", b"7S"))
    wire.open(3, PULL, (b"grpc-timeout", b"7S"))
    wire.data(3, message(b"x"))
    (ready,) = wire.events()
    assert getattr(ready, "timeout_s", None) == 7.0


def test_padding_and_priority_are_stripped_for_reading_only() -> None:
    """The frame itself goes on as it came."""
    wire = Wire()
    block = wire.request_encoder.encode([(b":path", PULL)])
    payload = b"\x04" + bytes(5) + block + bytes(4)
    wire.client(frames.frame(frames.HEADERS, 0x4 | 0x8 | 0x20, 1, payload))
    assert wire.to_upstream() == [Frame(frames.HEADERS, 0x2C, 1, payload)]
    assert wire.core.live == {1: PULL}


def test_the_decoders_bound_is_what_the_other_side_announced() -> None:
    """A larger table than 4,096 bytes needs SETTINGS_HEADER_TABLE_SIZE of its reader."""
    wire = Wire()
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(0x1, 10_000)))
    wire.upstream(frames.frame(frames.HEADERS, 4, 1, frames.size_update(10_000) + b"\x88"))
    assert not wire.events()
    wire.announce(0x1, 8000)
    wire.client(frames.frame(frames.HEADERS, 4, 1, frames.size_update(8000) + b"\x82"))
    assert not wire.events()
    wire.client(frames.frame(frames.HEADERS, 4, 3, frames.size_update(8001) + b"\x82"))
    assert isinstance(wire.events()[0], Notice)


def test_push_promises_are_decoded_as_well() -> None:
    """No gRPC server sends them; their block counts for the table all the same."""
    wire = Wire()
    block = wire.response_encoder.encode([(b"x-a", b"1")])
    wire.upstream(frames.frame(frames.PUSH_PROMISE, 0x4, 1, b"\0\0\0\x02" + block))
    wire.call(3)
    wire.core.forward(3, None)
    wire.events()
    wire.headers(3, [(b"x-a", b"1"), (b"grpc-status", b"0")], end=True)
    assert wire.events() == [CallEnded(3, 0, False, "")]
