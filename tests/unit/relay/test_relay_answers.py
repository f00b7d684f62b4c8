"""Answers: a held call ends with a message that upstream never sent, and windows stay true."""

from __future__ import annotations

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import StreamEnded
from shimcore.relay.limits import ANSWER_BYTES, ANSWERS_WAITING, REFUSED_STREAMS, REPLY_BYTES
from tests.support.wire import (
    OTHER,
    RESPONSE,
    TRAILERS,
    Frame,
    Wire,
    body,
    credit,
    message,
    setting,
)

CANCEL = frames.CANCEL.to_bytes(4, "big")
WINDOW = frames.SETTINGS_INITIAL_WINDOW_SIZE
TABLE = frames.SETTINGS_HEADER_TABLE_SIZE
DEFAULT = frames.DEFAULT_WINDOW


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


def kinds(sent: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.kind, frame.stream) for frame in sent]


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


def shrink(wire: Wire, size: int) -> None:
    """The client makes its table smaller, and upstream acknowledges that."""
    wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(TABLE, size)))
    wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
    wire.client_decoder.max_allowed_table_size = size
    wire.response_encoder.header_table_size = size


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


# -- bounds ----------------------------------------------------------------------------


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
    assert wire.core.replies.debt < DEFAULT + 20


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
