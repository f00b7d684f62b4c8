"""What comes behind an answer that waits, in which order, and how much of it."""

from __future__ import annotations

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import ANSWER_BYTES, ANSWERS_WAITING, REFUSED_STREAMS, REPLY_BYTES
from tests.support.waiting import filled, kinds, narrow, shrink
from tests.support.wire import (
    DEFAULT,
    OTHER,
    RESPONSE,
    TRAILERS,
    WINDOW,
    Wire,
    body,
    message,
    setting,
)


def test_other_calls_pass_an_answer_that_waits_for_its_stream() -> None:
    """Streams wait independently of each other, header blocks included."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    wire.open(3, OTHER)
    wire.to_client()
    wire.answer(3, b"abc")
    assert kinds(wire.to_client()) == [(1, 3), (0, 3), (1, 3)]


def test_header_blocks_wait_in_order() -> None:
    """Each may change the client's table."""
    wire = Wire()
    filled(wire, 3, left=5)
    wire.call(5)
    wire.core.answer(5, b"x")
    wire.open(7, OTHER)
    wire.to_client()
    wire.upstream(frames.frame(frames.DATA, 0, 3, b"abc"))
    wire.headers(3, TRAILERS, end=True)
    wire.headers(7, RESPONSE)
    wire.call(9)
    wire.core.refuse(9, 5, "no")
    assert not [frame for frame in wire.to_client() if frame.stream]
    wire.client(frames.window_update(0, 100))
    sent = [frame for frame in wire.to_client() if frame.stream]
    assert kinds(sent) == [(0, 5), (0, 3), (1, 3), (1, 7), (1, 9), (1, 5)]
    assert body(sent, 5) == b"x"
    for frame in sent:
        if frame.kind == frames.HEADERS:
            wire.decoded(frame.payload)


def test_a_reset_of_upstreams_stays_behind_its_data() -> None:
    """A server's RST_STREAM after its trailers does not cut them off."""
    wire = Wire()
    filled(wire, 3, left=5)
    wire.call(5)
    wire.core.answer(5, b"")
    wire.to_client()
    wire.upstream(frames.frame(frames.DATA, frames.END_STREAM, 3, b"abc"))
    wire.upstream(frames.rst_stream(3, 0))
    assert not wire.to_client()
    wire.client(frames.window_update(0, 100))
    assert kinds(wire.to_client()) == [(0, 3), (3, 3)]


def test_an_ack_that_would_forbid_waiting_data_waits_for_it() -> None:
    """The client counts it against the smaller window from the ACK on."""
    wire = Wire()
    filled(wire, 3, left=5)
    wire.call(5)
    wire.core.answer(5, b"")
    wire.to_client()
    wire.upstream(frames.frame(frames.DATA, 0, 3, b"abc"))
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(WINDOW, 1)))
    wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
    assert not wire.to_client()
    wire.client(frames.window_update(0, 100))
    assert kinds(wire.to_client()) == [(0, 3), (4, 0)]


def test_an_ack_that_waits_counts_for_blocks_behind_it() -> None:
    """A refusal that is queued after it brings the size update."""
    wire = Wire()
    filled(wire, 3, left=5)
    wire.call(5)
    wire.core.answer(5, b"")
    wire.upstream(frames.frame(frames.DATA, 0, 3, b"abc"))
    wire.headers(3, TRAILERS, end=True)
    wire.to_client()
    shrink(wire, 60)
    wire.call(7)
    wire.core.refuse(7, 5, "no")
    wire.client(frames.window_update(0, 100))
    sent = [frame for frame in wire.to_client() if frame.kind in {1, 4}]
    assert kinds(sent) == [(1, 3), (4, 0), (1, 7)]
    assert sent[-1].payload.startswith(frames.size_update(60))


def status(wire: Wire, stream: int) -> bytes:
    """The status that a call has ended with, b"" while it has not."""
    found = b""
    for frame in wire.to_client():
        if frame.kind == frames.HEADERS and frame.stream == stream:
            found = dict(wire.decoded(frame.payload)).get(b"grpc-status", b"")
    return found


def test_answers_that_are_not_taken_are_bounded_in_bytes() -> None:
    """Those that wait, and those for which the client has given no credit yet."""
    wire = Wire()
    wire.call(1)
    wire.core.answer(1, bytes(ANSWER_BYTES - 10))
    assert status(wire, 1) == b""
    wire.call(3)
    assert wire.core.answer(3, b"123456")
    assert status(wire, 3) == b"8"
    wire.call(5)
    assert wire.core.answer(5, b"12345"[:0])
    assert wire.core.replies.debt == ANSWER_BYTES
    wire.client(frames.rst_stream(1, 8))
    wire.call(7)
    wire.core.answer(7, b"")
    assert wire.core.replies.debt == DEFAULT + 10, "a window full has gone, and two are empty"


def test_answers_that_are_not_taken_are_bounded_in_number() -> None:
    """A client that gives no room for a single byte."""
    wire = Wire()
    narrow(wire, 0)
    for number in range(ANSWERS_WAITING):
        wire.call(2 * number + 1)
        wire.core.answer(2 * number + 1, b"")
    last = 2 * ANSWERS_WAITING + 1
    wire.call(last)
    wire.core.answer(last, b"")
    assert status(wire, last) == b"8"
    wire.client(frames.window_update(1, 5))
    wire.call(last + 2)
    wire.core.answer(last + 2, b"")
    assert status(wire, last + 2) == b""


def test_what_upstream_sends_behind_answers_is_bounded() -> None:
    """A block that has to wait for an answer keeps all that comes after it."""
    wire = Wire()
    wire.client(frames.window_update(0, frames.MAX_WINDOW - DEFAULT))
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    wire.headers(1, [(b":status", b"200"), (b"x-new", b"value")])
    wire.open(3, OTHER)
    wire.headers(3, RESPONSE)
    data = frames.frame(frames.DATA, 0, 3, bytes(16_384))
    with pytest.raises(FrameError) as caught:
        wire.upstream(data * (REPLY_BYTES // 16_384 + 1))
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM
    assert wire.core.replies.windows[2] <= REPLY_BYTES


def test_refusals_behind_an_answer_are_bounded() -> None:
    """A client that goes on asking, and lets its answers wait."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    wire.headers(1, [(b":status", b"200"), (b"x-new", b"value")])

    def ask(last: int) -> None:
        for stream in range(3, last, 2):
            wire.call(stream)
            wire.core.refuse(stream, 5, "no" * 1000)

    with pytest.raises(FrameError) as caught:
        ask(10_000)
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_an_answer_that_waits_is_not_forgotten_for_others() -> None:
    """Its late DATA is recognised, however many calls are refused meanwhile."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    for number in range(1, REFUSED_STREAMS + 10):
        wire.call(2 * number + 1)
        wire.core.refuse(2 * number + 1, 5, "no")
    sent = wire.to_client()
    wire.upstream(frames.frame(frames.DATA, 0, 1, b"late"))
    wire.client(frames.window_update(1, 100))
    assert body(sent + wire.to_client(), 1) == message(b"x" * 20)
