"""PINGs go hop by hop: upstream counts those that it gets, and hangs up after a few."""

from __future__ import annotations

import pytest

from shimcore.relay import frames
from shimcore.relay.limits import OWN_FRAMES
from tests.support.wire import OTHER, RESPONSE, TRAILERS, Frame, Wire

PING = frames.frame(frames.PING, 0, 0, b"12345678")
PONG = frames.frame(frames.PING, frames.ACK, 0, b"12345678")


@pytest.mark.parametrize("cut", [1, 9, 12, 17])
def test_the_clients_are_answered_here(cut: int) -> None:
    """With their own eight bytes, however they are cut; upstream hears nothing of them."""
    wire = Wire()
    wire.client(PING[:cut])
    wire.client(PING[cut:])
    assert wire.to_client() == [Frame(frames.PING, frames.ACK, 0, b"12345678")]
    assert not wire.to_upstream()


@pytest.mark.parametrize(
    "odd",
    [
        PONG,
        frames.frame(frames.PING, 0, 1, b"12345678"),
        frames.frame(frames.PING, 0, 0, b"1234567"),
        frames.frame(frames.PING, 0, 0, b"123456789"),
        frames.frame(frames.PING, frames.ACK, 0, b""),
    ],
    ids=["ack", "stream", "short", "long", "short ack"],
)
def test_acks_and_malformed_ones_go_on(odd: bytes) -> None:
    """They are upstream's to judge."""
    wire = Wire()
    wire.client(odd)
    assert wire.core.take_to_upstream() == [odd]
    assert not wire.to_client()


def test_upstreams_go_on_to_the_client() -> None:
    """And the client's ACKs go back, verbatim."""
    wire = Wire()
    wire.upstream(PING)
    assert wire.core.take_to_client() == [PING]
    wire.client(PONG)
    assert wire.core.take_to_upstream() == [PONG]


def test_nothing_is_answered_before_the_servers_settings() -> None:
    """They are the first that a client may hear of a server (§3.4)."""
    wire = Wire(shaken=False)
    wire.client(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0) + PING)
    assert not wire.core.take_to_client()
    assert [frame.kind for frame in wire.to_upstream()] == [frames.SETTINGS]
    wire.upstream(frames.frame(frames.SETTINGS, 0, 0))
    assert [frame.kind for frame in wire.to_client()] == [frames.SETTINGS, frames.PING]


def test_an_ack_waits_for_the_frame_and_the_block_that_are_on_their_way() -> None:
    """It stands between two frames, and never inside a header block."""
    wire = Wire()
    wire.open(1, OTHER)
    block = wire.response_encoder.encode(RESPONSE)
    first = frames.frame(frames.HEADERS, 0, 1, block[:3])
    data = frames.frame(frames.DATA, 0, 99, bytes(10))
    wire.upstream(data[:12])
    wire.client(PING)
    wire.upstream(data[12:] + first)
    wire.client(PING)
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:]))
    assert [frame.kind for frame in wire.to_client()] == [0, 6, 1, 9, 6]


def test_acks_that_cannot_go_are_bounded() -> None:
    """While upstream is inside a frame, a client that goes on is not read before long."""
    wire = Wire()
    wire.upstream(frames.frame(frames.DATA, 0, 99, bytes(100))[:50])
    seen = []
    wire.client(PING * OWN_FRAMES)
    seen.append(wire.core.backpressured)
    wire.client(PING)
    seen.append(wire.core.backpressured)
    wire.upstream(bytes(59))
    seen.append(wire.core.backpressured)
    assert seen == [False, True, False]


def test_a_server_stops_gracefully_while_a_call_is_held() -> None:
    """grpc-go: GOAWAY of 2^31-1 and a PING; after its ACK the true GOAWAY; then calls end."""
    wire = Wire()
    wire.call(1)
    wire.call(3)
    wire.to_upstream()
    drain = frames.frame(frames.PING, 0, 0, b"\1\6\1\x08\0\3\3\x09")
    first = frames.goaway(frames.STREAM_MASK, 0) + drain
    wire.upstream(first)
    assert wire.core.take_to_client() == [first]
    ack = frames.frame(frames.PING, frames.ACK, 0, drain[9:])
    wire.client(ack)
    assert wire.core.take_to_upstream() == [ack]
    wire.upstream(frames.goaway(3, 0))
    assert [frame.kind for frame in wire.to_client()] == [frames.GOAWAY]
    assert wire.core.answer(1, b"x")
    assert wire.core.forward(3, None)
    assert [(f.kind, f.stream) for f in wire.to_client() if f.stream] == [(1, 1), (0, 1), (1, 1)]
    wire.headers(3, [*RESPONSE, *TRAILERS], end=True)
    assert [(f.kind, f.stream) for f in wire.to_client()] == [(1, 3)]
    assert not wire.core.live
