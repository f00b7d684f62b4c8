"""Requests that are not one message that can be read, and those that are compressed."""

from __future__ import annotations

import gzip

from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallReady, Notice
from shimcore.relay.limits import MESSAGE_BYTES
from tests.support.wire import PULL, Wire, body, message


def test_several_messages_are_released_as_they_came() -> None:
    """A unary call has one; upstream answers what is wrong."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"one") + message(b"two"))
    assert body(wire.to_upstream(), 1) == message(b"one") + message(b"two")
    assert not wire.events()


def test_the_beginning_of_a_second_message_releases_at_once() -> None:
    """More than one message may mean a stream of them: its end is not waited for."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"one") + message(b"two")[:3], end=False)
    assert body(wire.to_upstream(), 1) == message(b"one") + message(b"two")[:3]


def test_a_second_message_after_the_first_was_told_releases_both() -> None:
    """The decision is called off, since it is no unary request."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"one"), end=False)
    wire.data(1, message(b"two"))
    assert body(wire.to_upstream(), 1) == message(b"one") + message(b"two")
    assert wire.events() == [CallReady(1, PULL, b"one", None, ()), CallCancelled(1)]
    wire.answer(1)
    assert not wire.events(), "nobody waits for its outcome"


def test_no_message_is_released() -> None:
    """END_STREAM without one, in HEADERS or in DATA."""
    wire = Wire()
    block = wire.request_encoder.encode([(b":path", PULL)])
    wire.client(frames.frame(frames.HEADERS, 0x5, 1, block))
    wire.open(3)
    wire.data(3, b"")
    sent = wire.to_upstream()
    assert [(f.kind, f.stream) for f in sent] == [(1, 1), (1, 3), (0, 3)]
    assert sent[2].flags == frames.END_STREAM
    assert not wire.events()


def test_half_a_message_is_released() -> None:
    """A request that ends before its message does."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image")[:7])
    assert body(wire.to_upstream(), 1) == message(b"image")[:7]
    assert not wire.events()


def test_trailers_release_a_unary_call() -> None:
    """No gRPC client sends them; what was held goes before them, in order."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image"), end=False)
    block = wire.request_encoder.encode([(b"x-end", b"1")])
    wire.client(frames.frame(frames.HEADERS, 0x5, 1, block))
    sent = wire.to_upstream()
    assert [frame.kind for frame in sent] == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert (sent[1].flags, sent[2].flags) == (0, 0x5)
    assert wire.events() == [CallReady(1, PULL, b"image", None, ()), CallCancelled(1)]


def test_an_unknown_encoding_goes_on_untouched_with_a_warning() -> None:
    """Only gzip is read."""
    wire = Wire()
    wire.open(1, PULL, (b"grpc-encoding", b"snappy"))
    sent = b"\x01\0\0\0\x03abc"
    wire.data(1, sent)
    assert body(wire.to_upstream(), 1) == sent
    (notice,) = wire.events()
    assert isinstance(notice, Notice)
    assert "snappy" in notice.text
    assert "/images/Pull" in notice.text


def test_gzip_is_read_and_a_rewritten_message_goes_uncompressed() -> None:
    """Flag 0 is legal under any encoding."""
    wire = Wire()
    wire.open(1, PULL, (b"grpc-encoding", b"gzip"))
    packed = gzip.compress(b"image")
    wire.data(1, b"\x01" + len(packed).to_bytes(4, "big") + packed)
    assert wire.events() == [CallReady(1, PULL, b"image", None, ())]
    wire.core.forward(1, b"other")
    assert body(wire.to_upstream(), 1) == message(b"other")


def test_a_message_over_the_limit_is_released_unread() -> None:
    """Its prefix says so; nothing of it is gathered."""
    wire = Wire()
    wire.open(1)
    start = b"\0" + (MESSAGE_BYTES + 1).to_bytes(4, "big") + b"abc"
    wire.data(1, start, end=False)
    assert body(wire.to_upstream(), 1) == start
    (notice,) = wire.events()
    assert isinstance(notice, Notice)
    wire.data(1, b"more", end=False)
    assert body(wire.to_upstream(), 1) == b"more"
