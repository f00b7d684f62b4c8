"""Strict methods: what is not understood of them is refused here, and never goes on."""

from __future__ import annotations

import gzip

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallReady, Notice
from shimcore.relay.limits import CONNECTION_HELD_BYTES, MESSAGE_BYTES
from shimcore.relay.route import Route
from tests.support.wire import (
    CANCEL,
    OTHER,
    PULL,
    RESPONSE,
    TRAILERS,
    Frame,
    Wire,
    body,
    message,
    request,
)

WHOLE = message(b"image")


def strict() -> Wire:
    """A connection of a process that refuses what it does not understand."""
    return Wire(route=Route.STRICT)


def refused(wire: Wire, stream: int = 1) -> tuple[int, str]:
    """Status and text with which the shim has ended a call, of which upstream got nothing."""
    sent = wire.to_upstream()
    assert not body(sent, stream)
    assert Frame(frames.RST_STREAM, 0, stream, CANCEL) in sent
    assert not any(frame.flags & 1 and frame.kind == 0 for frame in sent)
    (end,) = (f for f in wire.to_client() if f.kind == frames.HEADERS and f.stream == stream)
    fields = dict(wire.decoded(end.payload))
    assert not wire.core.requests.held
    text = fields[b"grpc-message"].decode()
    assert text.startswith("image-cri-shim: ")
    return int(fields[b"grpc-status"]), text


def test_a_unary_request_is_held_and_goes_on() -> None:
    """One message, END_STREAM, a decision."""
    wire = strict()
    wire.call(1)
    assert wire.events() == [CallReady(1, PULL, b"image", None, (), long=True)]
    wire.core.forward(1, b"other")
    assert body(wire.to_upstream(), 1) == message(b"other")


def test_nothing_is_told_before_the_requests_end() -> None:
    """A decision would be for a request that may not be one."""
    wire = strict()
    wire.open(1)
    wire.data(1, WHOLE, end=False)
    assert not wire.events()
    assert wire.core.gathering == [1]
    wire.data(1, b"")
    assert wire.events() == [CallReady(1, PULL, b"image", None, (), long=True)]


@pytest.mark.parametrize(
    "pieces",
    [
        [(WHOLE + WHOLE, True)],
        [(WHOLE, False), (WHOLE, True)],
        [(WHOLE + b"\0", False)],
        [(WHOLE, False), (b"\0", False)],
        [(b"", True)],
        [(WHOLE[:7], True)],
        [(WHOLE[:7], False), (b"", True)],
        [(b"\7" + WHOLE[1:], True)],
        [(b"\1" + WHOLE[1:], True)],
        [(b"\2\0\0\0\0", False)],
    ],
    ids=[
        "two messages",
        "a second message later",
        "a byte more",
        "a byte more later",
        "no message",
        "half a message",
        "half a message, ended later",
        "unknown flag",
        "compressed with nothing",
        "unknown flag, no end",
    ],
)
def test_what_is_not_one_message_is_refused(pieces: list[tuple[bytes, bool]]) -> None:
    """INVALID_ARGUMENT with the reason; nobody is asked to decide."""
    wire = strict()
    wire.open(1)
    for payload, end in pieces:
        wire.data(1, payload, end=end)
    code, text = refused(wire)
    assert code == 3
    assert "refused" in text
    (notice,) = wire.events()
    assert isinstance(notice, Notice)
    assert "/images/Pull" in notice.text


def test_no_body_at_all_is_refused() -> None:
    """END_STREAM with the HEADERS, which have gone on: the reset follows them."""
    wire = strict()
    wire.client(frames.frame(frames.HEADERS, 0x5, 1, wire.request_encoder.encode(request())))
    sent = wire.to_upstream()
    assert [frame.kind for frame in sent] == [frames.HEADERS, frames.RST_STREAM]
    assert [frame.flags for frame in wire.to_client()] == [0x5]
    assert not wire.core._state.opened


def test_a_body_less_call_whose_headers_wait_is_reset_behind_them() -> None:
    """RST_STREAM before its HEADERS would be for a stream that upstream does not know."""
    wire = strict()
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 3)
    wire.acknowledge()
    wire.open(1)
    wire.data(1, message(b"abc"))
    wire.core.forward(1, None)
    wire.client(frames.frame(frames.HEADERS, 0x4, 1, b"\x00\x01a\x01b"))
    wire.to_upstream()
    wire.client(frames.frame(frames.HEADERS, 0x5, 3, wire.request_encoder.encode(request())))
    assert not wire.to_upstream()
    wire.upstream(frames.window_update(1, 100))
    kinds = [(frame.kind, frame.stream) for frame in wire.to_upstream()]
    assert kinds == [(0, 1), (1, 1), (1, 3), (3, 3)]


@pytest.mark.parametrize("flags", [0x4, 0x5], ids=["more headers", "trailers"])
@pytest.mark.parametrize("sent", [b"", WHOLE[:3], WHOLE])
def test_trailers_are_refused(sent: bytes, flags: int) -> None:
    """No gRPC client ends a request with them, and the runtime might take them for an end."""
    wire = strict()
    wire.open(1)
    if sent:
        wire.data(1, sent, end=False)
    wire.client(frames.frame(frames.HEADERS, flags, 1, b"\x00\x01a\x01b"))
    assert refused(wire)[0] == 3


@pytest.mark.parametrize("late", ["data", "trailers"])
def test_what_follows_the_end_of_a_held_request_is_refused(late: str) -> None:
    """The decision on it is called off."""
    wire = strict()
    wire.call(1)
    wire.events()
    if late == "data":
        wire.data(1, WHOLE)
    else:
        wire.client(frames.frame(frames.HEADERS, 0x5, 1, b"\x00\x01a\x01b"))
    assert refused(wire)[0] == 3
    cancelled, notice = wire.events()
    assert cancelled == CallCancelled(1)
    assert isinstance(notice, Notice)
    assert not wire.core.forward(1, None)
    assert not wire.core.answer(1, b"x")


@pytest.mark.parametrize("encoding", [b"snappy", b"gzip"])
def test_what_does_not_inflate_is_refused(encoding: bytes) -> None:
    """An unknown encoding, or bytes that are not of this one."""
    wire = strict()
    wire.open(1, PULL, (b"grpc-encoding", encoding))
    wire.data(1, b"\x01\0\0\0\x03abc")
    assert refused(wire)[0] == 3


def test_several_encodings_are_refused() -> None:
    """The runtime might take another one than the shim."""
    wire = strict()
    wire.open(1, PULL, (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"gzip"))
    packed = gzip.compress(b"image")
    wire.data(1, b"\x01" + len(packed).to_bytes(4, "big") + packed)
    assert refused(wire)[0] == 3


def test_a_message_over_the_limit_is_refused() -> None:
    """RESOURCE_EXHAUSTED, as the runtime itself would say."""
    wire = strict()
    wire.open(1)
    wire.data(1, b"\0" + (MESSAGE_BYTES + 1).to_bytes(4, "big") + b"abc", end=False)
    assert refused(wire)[0] == 8


def test_too_much_that_is_held_is_refused() -> None:
    """Also where it could not leave at once."""
    wire = strict()
    wire.announce(frames.SETTINGS_MAX_FRAME_SIZE, frames.FRAME_HEADER_BYTES + (1 << 22))
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30)
    wire.acknowledge()
    wire.acknowledge()
    wire.upstream(frames.window_update(0, 1 << 30))
    part = b"\0" + MESSAGE_BYTES.to_bytes(4, "big") + bytes(1 << 22)
    last = 2 * (CONNECTION_HELD_BYTES >> 22) + 1
    for stream in range(1, last, 2):
        wire.open(stream)
        wire.data(stream, part, end=False)
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 10)
    wire.to_client()
    wire.open(last)
    wire.data(last, part, end=False)
    (ended,) = (frame for frame in wire.to_client() if frame.kind == frames.HEADERS)
    assert ended.stream == last
    assert dict(wire.decoded(ended.payload))[b"grpc-status"] == b"8"
    assert not body(wire.to_upstream(), last)


def test_a_refused_request_while_upstream_ends_the_call_is_dropped() -> None:
    """The client gets upstream's own end, and upstream nothing of the request."""
    wire = strict()
    wire.open(1)
    wire.data(1, WHOLE, end=False)
    block = wire.response_encoder.encode([*RESPONSE, *TRAILERS])
    wire.upstream(frames.frame(frames.HEADERS, frames.END_STREAM, 1, block[:3]))
    wire.data(1, WHOLE)
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:]))
    sent = wire.to_upstream()
    assert not body(sent, 1)
    assert [frame.kind for frame in sent] == [frames.HEADERS, frames.RST_STREAM]
    assert [f.kind for f in wire.to_client() if f.stream] == [1, 9]
    assert not wire.core.live
    assert not wire.core.requests.held


def test_other_methods_pass() -> None:
    """What is strict is the route's to say."""
    wire = strict()
    wire.open(1, OTHER)
    wire.data(1, WHOLE + WHOLE)
    assert body(wire.to_upstream(), 1) == WHOLE + WHOLE


@pytest.mark.parametrize(
    "paths",
    [
        [b"images/Pull"],
        [b"//images/Pull"],
        [b"/images/Pull?x=1"],
        [b"/images/Pull#x"],
        [b"/images/%50ull"],
        [b"%2Fimages%2FPull?" + b"x" * 300],
        [OTHER, PULL],
        [b"", b"images/Pull"],
    ],
)
def test_a_disguised_path_does_not_slip_past(paths: list[bytes]) -> None:
    """A server might take it for the strict method; grpc-go long did without the slash."""
    wire = strict()
    block = wire.request_encoder.encode([(b":path", path) for path in paths])
    wire.client(frames.frame(frames.HEADERS, 0x4, 1, block))
    wire.data(1, WHOLE)
    assert "path" in refused(wire)[1]


def test_a_disguised_path_is_nothing_where_no_method_is_strict() -> None:
    """The runtime answers it."""
    wire = Wire()
    wire.open(1, b"images/Pull")
    wire.data(1, WHOLE)
    assert body(wire.to_upstream(), 1) == WHOLE


# -- connections that would go on unread -----------------------------------------------


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.parametrize("block", [b"\x80", b"\xff\xff\xff\xff\xff\xff\xff"])
def test_a_lost_header_table_ends_the_connection(side: str, block: bytes) -> None:
    """From there on no method could be told from another."""
    wire = strict()
    wire.call(1)
    wire.to_upstream()
    with pytest.raises(FrameError) as caught:
        getattr(wire, side)(frames.frame(frames.HEADERS, 0x4, 3, block))
    assert caught.value.h2_code == frames.COMPRESSION_ERROR
    assert not wire.to_upstream()
    wire.core.go_away(caught.value)
    assert [frame.kind for frame in wire.to_client()] == [frames.GOAWAY]


def test_malformed_padding_of_headers_ends_the_connection() -> None:
    """It cannot be read either."""
    wire = strict()
    with pytest.raises(FrameError):
        wire.client(frames.frame(frames.HEADERS, 0x4 | frames.PADDED, 1, b"\xffabc"))
    assert not wire.to_upstream()


def test_what_is_not_http2_ends_the_connection() -> None:
    """An upgrade might follow."""
    wire = Wire(route=Route.STRICT, shaken=False)
    with pytest.raises(FrameError) as caught:
        wire.client(b"GET / HTTP/1.1\r\n\r\n")
    assert caught.value.h2_code == frames.PROTOCOL_ERROR
    assert not wire.core.take_to_upstream()


def test_a_connection_that_goes_unread_ends_when_a_method_becomes_strict() -> None:
    """At the client's next bytes after a reload."""
    wire = Wire()
    wire.client(frames.frame(frames.HEADERS, 0x4, 1, b"\x80"))
    wire.data(1, b"passes")
    wire.strict = True
    wire.to_upstream()
    with pytest.raises(FrameError):
        wire.data(1, b"does not")
    assert not wire.to_upstream()


def test_a_strict_call_is_kept_back_when_nothing_is_strict_any_more() -> None:
    """It has been told to be, and a lost table does not release it."""
    wire = strict()
    wire.call(1)
    wire.strict = False
    wire.to_upstream()
    with pytest.raises(FrameError):
        wire.client(frames.frame(frames.HEADERS, 0x4, 3, b"\x80"))
    assert not wire.to_upstream()
