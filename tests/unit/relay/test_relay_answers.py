"""Answers: a held call ends with a message that upstream never sent."""

from __future__ import annotations

import pytest

from shimcore.relay import frames
from shimcore.relay.events import StreamEnded
from tests.support.waiting import kinds, narrow, shrink
from tests.support.wire import (
    CANCEL,
    DEFAULT,
    OTHER,
    RESPONSE,
    TRAILERS,
    Frame,
    Wire,
    body,
    message,
)


def test_the_client_gets_a_message_and_upstream_a_reset() -> None:
    """HEADERS, DATA and trailers that touch no table; CANCEL; the request is credited."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    assert wire.core.answer(1, b"sha256:x")
    head, given, data, end = wire.to_client()
    assert (head.kind, head.flags) == (frames.HEADERS, frames.END_HEADERS)
    assert wire.decoded(head.payload) == RESPONSE
    assert given == Frame(frames.WINDOW_UPDATE, 0, 0, (10).to_bytes(4, "big"))
    assert data == Frame(frames.DATA, 0, 1, message(b"sha256:x"))
    assert (end.kind, end.flags) == (frames.HEADERS, 0x5)
    assert wire.decoded(end.payload) == [(b"grpc-status", b"0")]
    assert all(payload[0] in {0x88, 0x00} for payload in (head.payload, end.payload))
    assert wire.to_upstream() == [Frame(frames.RST_STREAM, 0, 1, CANCEL)]
    assert wire.core.requests.windows == (DEFAULT, DEFAULT, 0)
    assert not wire.core.live
    assert not wire.core._state.opened


def test_an_answered_call_is_decided_once() -> None:
    """A second decision, or one for a call that is not held, changes nothing."""
    wire = Wire()
    wire.call(1)
    assert wire.core.answer(1, b"x")
    wire.to_client()
    assert not wire.core.answer(1, b"y")
    assert not wire.core.refuse(1, 5, "no")
    assert not wire.core.forward(1, None)
    assert not wire.core.answer(99, b"y")
    assert not wire.to_client()


def test_late_frames_while_the_answer_waits_stay_out_of_it() -> None:
    """Whatever upstream still says of its own; a block only if it changes the table."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    sent = wire.to_client()
    wire.upstream(frames.window_update(1, 10))
    wire.upstream(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x88"))
    wire.headers(1, [(b":status", b"200"), (b"x-new", b"value")])
    wire.upstream(frames.frame(frames.DATA, 0, 1, b"late"))
    wire.upstream(frames.rst_stream(1, 0))
    wire.upstream(frames.rst_stream(1, 0))
    assert not wire.to_client()
    wire.open(3, OTHER)
    wire.headers(3, [(b":status", b"200"), (b"x-new", b"value")])
    assert not wire.to_client(), "it refers to an entry that the client has not got yet"
    for _ in range(2):
        wire.client(frames.window_update(1, 10))
    sent += wire.to_client()
    assert body(sent, 1) == message(b"x" * 20)
    assert kinds(sent)[-3:] == [(1, 1), (1, 1), (1, 3)]
    for frame in sent:
        if frame.kind == frames.HEADERS:
            fields = wire.decoded(frame.payload)
    assert fields[1] == (b"x-new", b"value")


@pytest.mark.parametrize("kind", [frames.DATA, frames.HEADERS])
def test_upstreams_end_is_not_the_end_of_an_answer_that_waits(kind: int) -> None:
    """The call is over when the client has all of it, with the shim's status."""
    wire = Wire()
    narrow(wire, 10)
    wire.core.watched = True
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    for _ in range(2):  # the second one is against the rules
        payload = b"\x88" if kind == frames.HEADERS else b"late"
        wire.upstream(frames.frame(kind, 0x5, 1, payload))
    assert list(wire.core.live) == [1]
    sent = wire.to_client()
    wire.client(frames.window_update(1, 100))
    assert body(sent + wire.to_client(), 1) == message(b"x" * 20)
    assert wire.events()[-1] == StreamEnded(1, b"/images/Pull", 0)


def test_answers_bring_the_size_update_that_the_client_waits_for() -> None:
    """With the response, and with the trailers if the client has changed its mind meanwhile."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    shrink(wire, 60)
    wire.core.answer(1, b"x" * 20)
    head = wire.to_client()[1]
    assert head.payload.startswith(frames.size_update(60) + b"\x88")
    wire.decoded(head.payload)
    shrink(wire, 0)
    wire.client(frames.window_update(1, 100))
    end = wire.to_client()[-1]
    assert end.payload.startswith(frames.size_update(0) + b"\x00")
    wire.decoded(end.payload)


def test_trailers_that_wait_bring_none_that_upstream_has_brought() -> None:
    """Else the client's table would be where upstream's is not any more."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 20)
    wire.open(3, OTHER)
    shrink(wire, 60)
    wire.headers(3, RESPONSE)
    wire.client(frames.window_update(1, 100))
    assert wire.to_client()[-1].payload.startswith(b"\x00")


def test_an_answer_before_the_servers_settings_waits_for_them() -> None:
    """Nothing of ours goes first (§3.4)."""
    wire = Wire(shaken=False)
    wire.client(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0))
    wire.call(1)
    wire.core.answer(1, b"x")
    assert not wire.core.take_to_client()
    wire.upstream(frames.frame(frames.SETTINGS, 0, 0))
    assert [frame.kind for frame in wire.to_client()] == [4, 1, 8, 0, 1]


def test_an_answer_waits_for_the_frame_that_is_on_its_way() -> None:
    """It stands between two frames."""
    wire = Wire()
    wire.open(1, OTHER)
    wire.headers(1, RESPONSE)
    wire.call(3)
    wire.to_client()
    data = frames.frame(frames.DATA, 0, 1, b"x" * 100)
    wire.upstream(data[:50])
    wire.core.answer(3, b"x")
    assert b"".join(wire.core.take_to_client()) == data[:50]
    wire.upstream(data[50:])
    assert b"".join(wire.core.take_to_client()).startswith(data[50:])


def test_an_answer_while_upstreams_own_end_is_on_its_way_is_too_late() -> None:
    """A stream is not ended twice."""
    wire = Wire()
    wire.call(1)
    block = wire.response_encoder.encode([*RESPONSE, *TRAILERS])
    wire.upstream(frames.frame(frames.HEADERS, frames.END_STREAM, 1, block[:3]))
    assert not wire.core.answer(1, b"x")
    assert wire.core.replies.debt == 0


def test_an_answer_after_upstreams_first_bytes_is_an_error() -> None:
    """Two halves of two messages would be read as one."""
    wire = Wire()
    wire.call(1)
    wire.headers(1, RESPONSE)
    wire.upstream(frames.frame(frames.DATA, 0, 1, message(b"abc")[:3]))
    assert wire.core.answer(1, b"x")
    end = [frame for frame in wire.to_client() if frame.kind == frames.HEADERS][-1]
    assert wire.decoded(end.payload)[0] == (b"grpc-status", b"13")


def test_an_answered_call_that_the_client_has_not_ended_is_swallowed() -> None:
    """What it still sends is dropped and credited; then nothing of it is remembered."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image"), end=False)
    wire.core.answer(1, b"x")
    wire.to_upstream()
    wire.to_client()
    wire.data(1, b"", end=True)
    wire.client(frames.window_update(1, 6))
    assert not wire.to_upstream()
    assert not wire.core._state.opened
