"""Opened calls: what is held, and what a decision makes of it."""

from __future__ import annotations

import pytest

from shimcore.heldcall import Answer, Decision, Forward, Refuse
from shimcore.relay import frames
from shimcore.relay.events import CallEnded, CallReady, Notice
from shimcore.relay.limits import METADATA_BYTES
from tests.support.wire import OTHER, PULL, Frame, Wire, body, message


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
