"""Header blocks that came before as they are: they need no decoding, and keep every other rule."""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.route import Route
from tests.support.waiting import kinds, narrow
from tests.support.wire import (
    OTHER,
    PULL,
    RESPONSE,
    WINDOW,
    Wire,
    message,
    request,
)
from tests.unit.relay.test_relay_strict import refused

END = frames.END_HEADERS | frames.END_STREAM


def used(path: bytes = OTHER) -> Wire:
    """A connection on which three calls have been made and answered: their blocks are known."""
    wire = Wire()
    for stream in (1, 3, 5):
        wire.open(stream, path)
        wire.data(stream, message(b"image"))
        wire.core.forward(stream, None)
        wire.answer(stream)
    assert not wire.core.live
    wire.events()
    wire.to_client()
    wire.to_upstream()
    return wire


def test_a_call_is_what_it_is() -> None:
    """Its method is seen, its request held, its outcome told."""
    wire = used(PULL)
    wire.open(7)
    assert (wire.core.live, wire.core.gathering) == ({7: PULL}, [7])
    wire.data(7, message(b"other"))
    wire.core.forward(7, None)
    wire.answer(7, b"x")
    assert [type(event).__name__ for event in wire.events()] == ["CallReady", "CallEnded"]


def test_late_trailers_open_nothing() -> None:
    """Those of a stream that is over belong to no other."""
    wire = Wire()
    for stream in (1, 3, 5):
        wire.open(stream, OTHER)
        wire.data(stream, b"", end=False)
        block = wire.request_encoder.encode([(b"x-end", b"1")])
        wire.client(frames.frame(frames.HEADERS, END, stream, block))
        wire.answer(stream)
    wire.client(frames.frame(frames.HEADERS, END, 1, block))
    assert not wire.core.live


def test_a_new_call_waits_for_what_waits() -> None:
    """Its block does not overtake one that changes upstream's table."""
    wire = used()
    wire.announce(WINDOW, 3)
    wire.acknowledge()
    wire.open(7)
    wire.data(7, b"\x07ab", end=False)
    wire.data(7, b"cd", end=False)
    wire.to_upstream()
    block = wire.request_encoder.encode([(b"x-end", b"1")])
    wire.client(frames.frame(frames.HEADERS, END, 7, block))
    wire.open(9, OTHER)
    wire.open(11, OTHER)
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(7, 10))
    assert kinds(wire.to_upstream()) == [(0, 7), (1, 7), (1, 9), (1, 11)]


def test_an_answer_waits_for_what_waits() -> None:
    """Likewise towards the client."""
    wire = used()
    narrow(wire, 10)
    wire.call(7)
    wire.core.answer(7, b"x" * 20)
    wire.open(9, OTHER)
    wire.open(11, OTHER)
    wire.to_client()
    wire.headers(7, [(b":status", b"200"), (b"x-new", b"value")])
    wire.headers(9, RESPONSE)
    wire.headers(11, RESPONSE)
    assert not wire.to_client()
    for _ in range(2):
        wire.client(frames.window_update(7, 10))
    assert kinds(wire.to_client())[-2:] == [(1, 9), (1, 11)]


def test_padding_is_no_part_of_it() -> None:
    """A padded frame whose payload reads as a block that is known has another one."""
    wire = Wire()
    block = b"\x00\x05:path" + bytes([len(OTHER)]) + OTHER + b"\x83\x86"
    wire.client(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert wire.core.live == {1: OTHER}
    padded = frames.END_HEADERS | frames.PADDED
    wire.client(frames.frame(frames.HEADERS, padded, 3, block))
    assert wire.core.lost, "what is left of it cannot be decoded"


def test_a_call_that_was_answered_here_is_over() -> None:
    """The client sees nothing of what upstream still says."""
    wire = used(PULL)
    wire.call(7)
    assert wire.core.refuse(7, 5, "no")
    wire.to_client()
    wire.answer(7)
    assert not [frame for frame in wire.to_client() if frame.stream == 7]


def test_what_cannot_be_read_is_refused() -> None:
    """The third time as well as the first."""
    wire = Wire(route=Route.STRICT)
    for stream in (1, 3, 5, 7):
        block = wire.request_encoder.encode(request(PULL))
        wire.client(frames.frame(frames.HEADERS, END, stream, block))
        assert refused(wire, stream)[1].endswith("no message")
