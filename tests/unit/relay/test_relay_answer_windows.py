"""The bytes of an answer are a debt of the other direction, and windows stay true."""

from __future__ import annotations

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import StreamEnded
from tests.support.waiting import filled, kinds, narrow
from tests.support.wire import (
    DEFAULT,
    OTHER,
    RESPONSE,
    TRAILERS,
    WINDOW,
    Frame,
    Wire,
    body,
    credit,
    message,
    setting,
)


def test_its_bytes_are_withheld_from_the_clients_credit() -> None:
    """Upstream never sent them: its view and the client's are equal once they are paid."""
    wire = Wire()
    wire.call(1)
    wire.core.answer(1, b"x" * 95)
    wire.to_client()
    wire.to_upstream()
    assert wire.core.replies.windows == (DEFAULT, DEFAULT - 100, 0)
    assert wire.core.replies.debt == 100
    wire.client(frames.window_update(0, 60))
    assert not wire.to_upstream()
    wire.client(frames.window_update(0, 45))
    assert wire.to_upstream() == [Frame(frames.WINDOW_UPDATE, 0, 0, (5).to_bytes(4, "big"))]
    assert wire.core.replies.windows == (DEFAULT + 5, DEFAULT + 5, 0)
    assert wire.core.replies.debt == 0


def test_an_answer_waits_for_the_streams_window() -> None:
    """Ten bytes at a time, and the trailers behind the last; the call lives until then."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.watched = True
    wire.core.answer(1, b"x" * 20)
    sent = wire.to_client()
    assert (len(body(sent, 1)), list(wire.core.live)) == (10, [1])
    wire.to_upstream()
    for _ in range(2):
        wire.client(frames.window_update(1, 10))
        sent += wire.to_client()
    assert body(sent, 1) == message(b"x" * 20)
    assert sent[-1].flags == 0x5
    assert not wire.to_upstream(), "a WINDOW_UPDATE of a stream that upstream has seen reset"
    assert not wire.core.live
    assert wire.events()[-1] == StreamEnded(1, b"/images/Pull", 0)


def test_an_answer_waits_for_the_connections_window() -> None:
    """And takes what the client gives before upstream hears of it."""
    wire = Wire()
    filled(wire, 3, left=10)
    wire.call(5)
    wire.core.answer(5, b"x" * 20)
    sent = wire.to_client()
    assert len(body(sent, 5)) == 10
    wire.to_upstream()
    wire.client(frames.window_update(0, 14))
    sent += wire.to_client()
    assert len(body(sent, 5)) == 24
    assert not wire.to_upstream()
    wire.client(frames.window_update(0, 20))
    sent += wire.to_client()
    assert body(sent, 5) == message(b"x" * 20)
    assert credit(wire.to_upstream(), 0) == 9
    assert wire.core.replies.windows == (19, 19, 0)


def test_the_streams_window_is_what_upstream_and_the_client_have_left() -> None:
    """The initial window with its changes, and the client's WINDOW_UPDATEs of the stream."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.client(frames.window_update(1, 7))
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(WINDOW, 12)))
    wire.core.answer(1, b"x" * 100)
    sent = wire.to_client()
    assert len(body(sent, 1)) == 17, "a larger window holds from the ACK on"
    wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
    sent = wire.to_client()
    assert kinds(sent) == [(frames.SETTINGS, 0), (frames.DATA, 1)]
    assert len(body(sent, 1)) == 2


def test_a_smaller_initial_window_holds_at_once() -> None:
    """Until upstream's ACK has passed, the client may count with either."""
    wire = Wire()
    wire.call(1)
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(WINDOW, 4)))
    wire.core.answer(1, b"x" * 10)
    assert len(body(wire.to_client(), 1)) == 4


def test_what_upstream_has_sent_on_the_stream_counts() -> None:
    """A forwarded call is not answered, but DATA without bytes and padding come before."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.headers(1, RESPONSE)
    wire.upstream(frames.frame(frames.DATA, frames.PADDED, 1, b"\x03\0\0\0"))
    wire.core.answer(1, b"x" * 10)
    sent = wire.to_client()
    assert [frame.kind for frame in sent if frame.stream] == [1, 0, 0], "no second response"
    assert len(sent[-1].payload) == 6


def test_upstream_fills_its_window_just_after_an_answer() -> None:
    """It believes in more than the client has: what is over waits for the client's credit."""
    wire = Wire()
    filled(wire, 3, left=1000)
    wire.call(5)
    wire.core.answer(5, b"x" * 395)
    wire.to_client()
    wire.to_upstream()
    data = frames.frame(frames.DATA, 0, 3, b"a" * 500)
    wire.upstream(data)
    assert wire.core.take_to_client() == [data]
    wire.upstream(frames.frame(frames.DATA, 0, 3, b"b" * 400))
    wire.upstream(frames.frame(frames.DATA, frames.PADDED, 3, b"\x04" + b"c" * 95 + bytes(4)))
    assert wire.core.replies.windows == (0, 0, 395)
    sent = wire.to_client()
    assert body(sent, 3) == b"b" * 100
    padding = wire.to_upstream()
    assert (credit(padding, 0), credit(padding, 3)) == (0, 5), "the debt is smaller by it"
    wire.headers(3, TRAILERS, end=True)
    assert not wire.to_client(), "trailers before the DATA"
    wire.client(frames.window_update(0, 1000))
    sent = wire.to_client()
    assert body(sent, 3) == b"b" * 300 + b"c" * 95
    assert sent[-1].kind == frames.HEADERS
    assert credit(wire.to_upstream(), 0) == 605
    assert wire.core.replies.windows == (605, 605, 0)


def test_the_reply_to_a_forwarded_call_is_counted_and_waits_like_others() -> None:
    """Whether upstream's windows are true or not."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.upstream(frames.frame(frames.DATA, 0, 1, message(b"x" * 95)))
    assert wire.core.replies.windows == (DEFAULT - 100, DEFAULT - 100, 0)
    wire.to_client()
    filled(wire, 3, left=100)
    wire.call(5)
    wire.core.answer(5, b"x" * 45)
    wire.call(7)
    wire.core.forward(7, None)
    wire.headers(7, RESPONSE)
    wire.to_client()
    wire.upstream(frames.frame(frames.DATA, 0, 7, message(b"y" * 75)))
    assert len(body(wire.to_client(), 7)) == 50
    assert wire.core.replies.windows == (20, 0, 30)


def test_upstream_may_not_overrun_the_window_that_it_sees() -> None:
    """What waits here cannot grow past it (§6.9.1)."""
    wire = Wire()
    filled(wire, 3, left=100)
    wire.call(5)
    wire.core.answer(5, b"x" * 45)
    with pytest.raises(FrameError) as caught:
        wire.upstream(frames.frame(frames.DATA, 0, 3, bytes(101)))
    assert caught.value.h2_code == frames.FLOW_CONTROL_ERROR


def test_without_a_debt_upstreams_data_passes_as_it_came() -> None:
    """Also over the client's window, which is the client's to judge."""
    wire = Wire()
    wire.open(1, OTHER)
    data = frames.frame(frames.DATA, frames.PADDED, 1, b"\x03abc\0\0\0") * 20_000
    wire.upstream(data)
    (out,) = wire.core.take_to_client()
    assert out is data


def test_a_reset_while_an_answer_waits_undoes_the_debt() -> None:
    """The rest is dropped, upstream is not told twice, and the room is everybody's again."""
    wire = Wire()
    narrow(wire, 10)
    wire.core.watched = True
    wire.call(1)
    wire.core.answer(1, b"x" * 100)
    wire.to_client()
    wire.to_upstream()
    wire.client(frames.rst_stream(1, frames.CANCEL))
    assert wire.core.replies.windows == (DEFAULT, DEFAULT - 10, 0)
    assert wire.core.replies.debt == 10
    assert not wire.to_upstream()
    assert not wire.to_client()
    assert wire.events()[-1] == StreamEnded(1, b"/images/Pull", 1)
    assert not wire.core._state.opened
    assert not wire.core._answers._waiting
    wire.client(frames.window_update(0, 10))
    assert not wire.to_upstream()
    assert wire.core.replies.windows == (DEFAULT, DEFAULT, 0)


def test_a_debt_that_is_paid_already_is_given_back_when_its_answer_is_dropped() -> None:
    """Upstream gets what was withheld from it for bytes that never went."""
    wire = Wire()
    narrow(wire, 10)
    wire.call(1)
    wire.core.answer(1, b"x" * 95)
    wire.to_upstream()
    wire.client(frames.window_update(0, 100))
    assert not wire.to_upstream()
    wire.client(frames.rst_stream(1, frames.CANCEL))
    assert credit(wire.to_upstream(), 0) == 90
    assert wire.core.replies.windows == (DEFAULT + 90, DEFAULT + 90, 0)


def test_a_reset_of_another_call_drops_what_waits_of_it() -> None:
    """Upstream gets the room back, as if the client had taken it."""
    wire = Wire()
    filled(wire, 3, left=50)
    wire.call(5)
    wire.core.answer(5, b"x" * 95)
    wire.to_client()
    wire.to_upstream()
    wire.upstream(frames.frame(frames.DATA, 0, 3, b"y" * 40))
    wire.client(frames.rst_stream(3, frames.CANCEL))
    assert kinds(wire.to_upstream()) == [(frames.RST_STREAM, 3)]
    assert wire.core.replies.windows == (10, 0, 50)
    wire.client(frames.window_update(0, 100))
    assert kinds(wire.to_client()) == [(0, 5), (1, 5)]
    assert credit(wire.to_upstream(), 0) == 40
    assert wire.core.replies.windows == (50, 50, 0)


def test_late_data_of_an_answered_call_pays_the_debt() -> None:
    """It is dropped; upstream's window has shrunk by it as the client's has by the answer."""
    wire = Wire()
    wire.call(1)
    wire.core.answer(1, b"x" * 95)
    wire.to_client()
    wire.to_upstream()
    wire.upstream(frames.frame(frames.DATA, 0, 1, bytes(70)))
    assert (wire.core.replies.debt, wire.to_upstream()) == (30, [])
    wire.upstream(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(70)))
    assert credit(wire.to_upstream(), 0) == 40
    assert not wire.to_client()
    assert wire.core.replies.windows == (DEFAULT - 100, DEFAULT - 100, 0)
