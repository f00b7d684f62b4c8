"""Opened calls, rule by rule: what is held, what becomes of it, and what is told."""

from __future__ import annotations

import gzip

import pytest

from shimcore.heldcall import Answer, Decision, Forward, Refuse
from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallEnded, CallReady, Notice
from shimcore.relay.limits import MESSAGE_BYTES, METADATA_BYTES, REFUSAL_TEXT_BYTES
from tests.support.wire import OTHER, PULL, RESPONSE, TRAILERS, Frame, Wire, body, message

CANCEL = frames.CANCEL.to_bytes(4, "big")


# -- holding ---------------------------------------------------------------------------


def test_the_headers_of_an_opened_call_go_on_and_its_data_waits() -> None:
    """Upstream knows every stream; only the request itself is held."""
    wire = Wire()
    wire.call(1)
    assert [frame.kind for frame in wire.to_upstream()] == [frames.HEADERS]
    assert wire.events() == [CallReady(1, PULL, b"image", None, ())]
    assert wire.core.requests.held == 10


def test_other_calls_are_not_held() -> None:
    """Their bytes go on in the chunk in which they came."""
    wire = Wire()
    block = wire.request_encoder.encode([(b":path", OTHER)])
    chunk = frames.frame(frames.HEADERS, 0x4, 1, block) + frames.frame(frames.DATA, 1, 1, b"abc")
    wire.client(chunk)
    (out,) = wire.core.take_to_upstream()
    assert out is chunk
    assert wire.core.live == {1: OTHER}


def test_the_callers_timeout_is_told() -> None:
    """The image side works within the time that the caller has left."""
    wire = Wire()
    wire.open(1, PULL, (b"grpc-timeout", b"1500m"))
    wire.data(1, message(b"x"))
    assert wire.events() == [CallReady(1, PULL, b"x", 1.5, ())]


def test_the_callers_metadata_is_told() -> None:
    """What is the caller's own, in order and as often as it came; not the transport's."""
    wire = Wire()
    own = ((b"traceparent", b"00-1"), (b"x-a", b"1"), (b"x-b-bin", b"AA"), (b"x-a", b"2"))
    names = "te content-type user-agent host content-length connection grpc-encoding grpc-x"
    theirs = ((name.encode(), b"x") for name in names.split())
    wire.open(1, PULL, *own[:1], *theirs, *own[1:])
    wire.data(1, message(b"x"))
    assert wire.events() == [CallReady(1, PULL, b"x", None, own)]


def test_too_much_metadata_is_not_kept() -> None:
    """It goes on to the runtime, and an operator hears of it."""
    wire = Wire()
    wire.open(1, PULL, (b"x", b"y" * METADATA_BYTES))
    wire.data(1, message(b"x"))
    notice, ready = wire.events()
    assert isinstance(notice, Notice)
    assert ready == CallReady(1, PULL, b"x", None, ())


def test_a_message_in_many_pieces_is_gathered() -> None:
    """Also when DATA frames cut the five bytes of its prefix."""
    wire = Wire()
    wire.open(1)
    whole = message(b"image")
    for position in range(len(whole)):
        assert not wire.events()
        wire.data(1, whole[position : position + 1], end=False)
    assert wire.events() == [CallReady(1, PULL, b"image", None, ())]
    wire.data(1, b"")
    assert not wire.events()
    wire.core.forward(1, None)
    assert body(wire.to_upstream(), 1) == whole


def test_forward_as_it_came() -> None:
    """One DATA frame with the same bytes and END_STREAM."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    assert wire.core.forward(1, None)
    sent = [Frame(frames.DATA, frames.END_STREAM, 1, message(b"image"))]
    assert wire.to_upstream() == sent


def test_forward_another_message() -> None:
    """New DATA frames with the new message, uncompressed, and END_STREAM."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    assert wire.core.forward(1, b"y" * 20_000)
    sent = wire.to_upstream()
    assert [len(frame.payload) for frame in sent] == [16_384, 3621]
    assert [frame.flags for frame in sent] == [0, frames.END_STREAM]
    assert body(sent, 1) == message(b"y" * 20_000)


def test_end_stream_stays_as_it_was() -> None:
    """A client that has not ended its side yet ends it later, in its own frame."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image"), end=False)
    wire.to_upstream()
    wire.core.forward(1, b"other")
    assert wire.to_upstream() == [Frame(frames.DATA, 0, 1, message(b"other"))]
    wire.data(1, b"")
    assert wire.to_upstream() == [Frame(frames.DATA, frames.END_STREAM, 1, b"")]


def test_a_call_is_decided_once() -> None:
    """A second decision, or one for a call that is not held, changes nothing."""
    wire = Wire()
    wire.call(1)
    assert wire.core.forward(1, None)
    wire.to_upstream()
    assert not wire.core.forward(1, None)
    assert not wire.core.refuse(1, 5, "late")
    assert not wire.core.forward(99, None)
    assert not wire.core.refuse(99, 5, "unknown")
    assert not wire.to_upstream()
    assert not wire.to_client()


def test_a_gathering_call_can_be_refused_but_not_forwarded() -> None:
    """The shell ends an unfinished request when others need its memory."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image")[:7], end=False)
    assert wire.core.gathering == [1]
    assert not wire.core.forward(1, None)
    assert wire.core.refuse(1, 8, "too slow")
    assert not wire.core.gathering
    assert not wire.events()


# -- what is not ours to judge ---------------------------------------------------------


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


def test_a_message_over_16_mib_is_released_unread() -> None:
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


# -- the end of a call -----------------------------------------------------------------


@pytest.mark.parametrize(("content", "empty"), [(b"", True), (b"ref", False)])
def test_the_outcome_of_a_forwarded_call_is_told(content: bytes, empty: bool) -> None:
    """Its status, and whether the answer's message is empty."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.answer(1, content)
    assert wire.events() == [CallEnded(1, 0, empty, "")]
    assert not wire.core.live


@pytest.mark.parametrize(
    ("status", "code"), [(b"5", 5), (b"", 2), (b"x", 2), (b"9999", 2), (None, 2)]
)
def test_the_status_is_read_from_the_trailers(status: bytes | None, code: int) -> None:
    """A missing or odd one is UNKNOWN; trailers-only answers count as well."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    extra = [] if status is None else [(b"grpc-status", status)]
    wire.headers(1, [*RESPONSE, *extra], end=True)
    assert wire.events() == [CallEnded(1, code, False, "")]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"not found", "not found"),
        (b"100 %25 n%C3%B6", "100 % n\u00f6"),
        (b"%zz%FF", "%zz\ufffd"),
        (b"%C3%B6" * 10_000, "\u00f6" * (REFUSAL_TEXT_BYTES // 2)),
    ],
)
def test_the_text_is_read_from_the_trailers(sent: bytes, text: str) -> None:
    """Percent-decoded, and no more of it than a refusal would say."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.headers(1, [*RESPONSE, (b"grpc-status", b"5"), (b"grpc-message", sent)], end=True)
    assert wire.events() == [CallEnded(1, 5, False, text)]


@pytest.mark.parametrize("padding", [0, 3, 200])
def test_padding_is_not_taken_for_the_answer(padding: int) -> None:
    """Five bytes of padding are no empty message."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.headers(1, RESPONSE)
    for piece in (b"\0\0", b"\0\0\x01", b"x"):
        payload = bytes([padding]) + piece + bytes(padding)
        wire.upstream(frames.frame(frames.DATA, frames.PADDED, 1, payload))
    wire.headers(1, TRAILERS, end=True)
    assert wire.events() == [CallEnded(1, 0, False, "")]


def test_an_answer_in_single_bytes_is_read_as_well() -> None:
    """Where the network cuts does not matter."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.headers(1, RESPONSE)
    for byte in frames.frame(frames.DATA, 0, 1, bytes(5)):
        wire.upstream(bytes([byte]))
    wire.headers(1, TRAILERS, end=True)
    assert wire.events() == [CallEnded(1, 0, True, "")]


@pytest.mark.parametrize(("code", "status"), [(8, 1), (7, 14), (2, 13)])
def test_a_reset_by_upstream_is_an_outcome(code: int, status: int) -> None:
    """The status is the one that a gRPC client derives."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.upstream(frames.rst_stream(1, code))
    assert wire.events() == [CallEnded(1, status, False, "")]
    assert wire.to_client() == [Frame(frames.RST_STREAM, 0, 1, code.to_bytes(4, "big"))]


def test_a_reset_while_held_cancels_and_goes_on() -> None:
    """The client gives up: the work on the side ends, upstream hears of it."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    wire.events()
    wire.client(frames.rst_stream(1, frames.CANCEL))
    assert wire.events() == [CallCancelled(1)]
    assert wire.to_upstream() == [Frame(frames.RST_STREAM, 0, 1, CANCEL)]
    assert not wire.core.forward(1, None)
    assert wire.core.requests.held == 0
    assert not wire.core.live


def test_a_reset_of_a_forwarded_call_is_its_outcome() -> None:
    """CANCELLED, once."""
    wire = Wire()
    wire.call(1)
    wire.core.forward(1, None)
    wire.events()
    wire.client(frames.rst_stream(1, frames.CANCEL))
    assert wire.events() == [CallEnded(1, 1, False, "")]
    wire.answer(1)
    assert not wire.events()


def test_upstream_answers_while_the_request_is_held() -> None:
    """The work is cancelled, the answer stays upstream's, and upstream's stream is ended."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    wire.events()
    wire.headers(1, [*RESPONSE, (b"grpc-status", b"12")], end=True)
    assert wire.events() == [CallCancelled(1)]
    assert wire.to_upstream() == [Frame(frames.RST_STREAM, 0, 1, CANCEL)]
    kinds = [frame.kind for frame in wire.to_client()]
    assert kinds == [frames.HEADERS, frames.WINDOW_UPDATE]
    wire.upstream(frames.rst_stream(1, 0))
    assert [frame.kind for frame in wire.to_client()] == [frames.RST_STREAM]


def test_upstream_answers_before_any_request() -> None:
    """Nothing is held, so nothing is in the way: what the client sends later passes."""
    wire = Wire()
    wire.open(1)
    wire.to_upstream()
    wire.headers(1, [*RESPONSE, (b"grpc-status", b"12")], end=True)
    wire.data(1, message(b"late"))
    assert [frame.kind for frame in wire.to_upstream()] == [frames.DATA]
    assert not wire.events()


def test_the_client_is_gone() -> None:
    """Every call that is not over becomes an event, once."""
    wire = Wire()
    for stream in (1, 3, 5):
        wire.call(stream)
    wire.open(7)
    wire.core.forward(3, None)
    wire.core.refuse(5, 5, "no")
    wire.events()
    wire.core.close()
    assert wire.events() == [CallCancelled(1), CallEnded(3, 14, False, "")]
    wire.core.close()
    assert not wire.events()
    assert not wire.core.live


def known(decision: Decision | None) -> Wire:
    """A connection whose calls are all decided on in the same way, at once."""
    return Wire(decide=lambda _: decision)


def test_a_call_that_is_known_to_go_on_is_not_held() -> None:
    """Its frame goes on as the bytes that came, and its end is told."""
    wire = known(Forward(None))
    wire.open(1)
    wire.to_upstream()
    sent = frames.frame(frames.DATA, frames.END_STREAM, 1, message(b"image"))
    wire.client(sent)
    assert wire.core.take_to_upstream() == [sent]
    assert (wire.core.requests.held, wire.core.requests.debt) == (0, 0)
    assert wire.core.requests.windows[1] == frames.DEFAULT_WINDOW - len(message(b"image"))
    wire.answer(1)
    assert wire.events() == [CallEnded(1, 0, empty=True, message="")]


@pytest.mark.parametrize("cut", [1, 5, 7])
def test_a_call_that_is_known_is_held_until_its_message_is_whole(cut: int) -> None:
    """Nobody is asked before; then it goes on as it came."""
    asked: list[CallReady] = []

    def decide(ready: CallReady) -> Forward:
        asked.append(ready)
        return Forward(None)

    wire = Wire(decide=decide)
    wire.open(1)
    wire.to_upstream()
    wire.data(1, message(b"image")[:cut], end=False)
    assert (asked, wire.to_upstream()) == ([], [])
    wire.data(1, message(b"image")[cut:])
    assert [ready.message for ready in asked] == [b"image"]
    assert body(wire.to_upstream(), 1) == message(b"image")


def test_the_rest_of_a_message_is_not_one_of_its_own() -> None:
    """Though its bytes are those of another message, prefix and all."""
    asked: list[bytes] = []

    def decide(ready: CallReady) -> Forward:
        asked.append(ready.message)
        return Forward(None)

    wire = Wire(decide=decide)
    wire.open(1)
    wire.data(1, message(message(b"image"))[:5], end=False)
    wire.data(1, message(b"image"))
    assert asked == [message(b"image")]


def test_a_call_that_is_known_waits_for_upstreams_window() -> None:
    """As every other DATA does, and takes it from both windows once."""
    wire = known(Forward(None))
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 4)
    wire.acknowledge()
    wire.call(1)
    assert body(wire.to_upstream(), 1) == message(b"image")[:4]
    wire.upstream(frames.window_update(1, 100))
    assert body(wire.to_upstream(), 1) == message(b"image")[4:]
    assert (wire.core.requests.held, wire.core.requests.debt) == (0, 0)


def test_a_known_call_with_padding() -> None:
    """Padding goes on with the frame that it is in."""
    wire = known(Forward(None))
    wire.open(1)
    wire.to_upstream()
    flags = frames.END_STREAM | frames.PADDED
    sent = frames.frame(frames.DATA, flags, 1, b"\3" + message(b"image") + bytes(3))
    wire.client(sent)
    assert wire.core.take_to_upstream() == [sent]


def test_what_is_decided_at_once_may_be_anything() -> None:
    """Another message, a refusal, an answer: the same comes out as of one decided later."""
    wire = known(Forward(b"other"))
    wire.call(1)
    assert body(wire.to_upstream(), 1) == message(b"other")
    for decision in (Refuse(5, "no"), Answer(b"sha256:x")):
        wire, later = known(decision), known(None)
        wire.call(1)
        later.call(1)
        later.core.settle(1, decision)
        assert wire.core.take_to_client() == later.core.take_to_client()
        assert b"".join(wire.core.take_to_upstream()) == b"".join(later.core.take_to_upstream())
