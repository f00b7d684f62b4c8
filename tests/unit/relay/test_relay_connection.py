"""The connection: what passes, what ends it, and what is only noticed."""

from __future__ import annotations

import random

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallEnded, Notice, StreamBegan, StreamEnded
from shimcore.relay.limits import HEADER_BLOCK_BYTES, TRACKED_STREAMS
from tests.support.wire import OTHER, PULL, RESPONSE, TRAILERS, Frame, Wire, body, message, setting


@pytest.mark.parametrize(
    "chunk",
    [
        frames.frame(frames.PING, frames.ACK, 0, b"12345678"),
        frames.goaway(0x7FFFFFFF, 0, "bye") + frames.goaway(3, 0),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(0xBE, 0xFF, 77, b"unknown"),
        frames.frame(frames.SETTINGS, 0, 0, setting(0x3, 100)),
        frames.window_update(0, 100),
        frames.window_update(99, 100),
        frames.rst_stream(99, 0),
    ],
    ids=["pong", "goaway", "priority", "unknown", "settings", "window", "stream", "reset"],
)
def test_control_frames_pass_verbatim_both_ways(chunk: bytes) -> None:
    """As the same object, and nothing is said in their stead."""
    wire = Wire()
    wire.client(chunk)
    wire.upstream(chunk)
    (up,) = wire.core.take_to_upstream()
    (down,) = wire.core.take_to_client()
    assert up is chunk
    assert down is chunk
    assert not wire.events()


def test_the_preface_passes_however_it_is_cut() -> None:
    """24 bytes, one at a time."""
    wire = Wire(shaken=False)
    hello = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)
    for byte in hello:
        wire.client(bytes([byte]))
    assert b"".join(wire.core.take_to_upstream()) == hello
    assert not wire.events()


@pytest.mark.parametrize(
    "hello", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", frames.PREFACE[:10] + b"X"]
)
def test_what_is_not_http2_is_relayed_as_bytes(hello: bytes) -> None:
    """Upstream refuses it, in its own words; an operator hears of it once."""
    wire = Wire(shaken=False)
    for byte in hello:
        wire.client(bytes([byte]))
    wire.client(b"more")
    wire.upstream(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert b"".join(wire.core.take_to_upstream()) == hello + b"more"
    assert b"".join(wire.core.take_to_client()) == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    (notice,) = wire.events()
    assert isinstance(notice, Notice)
    assert "HTTP/2" in notice.text


@pytest.mark.parametrize("odd", [b"\xff\xff\xff\xff\xff\xff\xff", b"\x80", b"\x7f\x80\x80"])
def test_a_lost_header_table_releases_what_is_held(odd: bytes) -> None:
    """From there on nothing is opened, everything passes, and a notice says so once."""
    wire = Wire()
    wire.call(1)
    wire.call(3)
    wire.core.forward(3, None)
    wire.open(5)
    wire.data(5, message(b"image")[:6], end=False)
    wire.events()
    wire.to_upstream()
    wire.client(frames.frame(frames.HEADERS, 0x4, 7, odd))
    sent = wire.to_upstream()
    assert Frame(frames.HEADERS, 0x4, 7, odd) in sent
    assert body(sent, 1) == message(b"image")
    assert body(sent, 5) == message(b"image")[:6]
    first, *rest = wire.events()
    assert isinstance(first, Notice)
    assert rest == [CallCancelled(1), CallEnded(3, 2, False, "")]
    wire.client(frames.frame(frames.HEADERS, 0x4, 9, odd))
    wire.data(9, b"anything")
    wire.data(5, message(b"image")[6:])
    assert body(wire.to_upstream(), 5) == message(b"image")[6:]
    wire.headers(1, [*RESPONSE, *TRAILERS], end=True)
    assert [frame.kind for frame in wire.to_client()] == [frames.HEADERS]
    assert not wire.core.refuse(1, 5, "no")
    assert not wire.events()
    wire.core.close()
    assert not wire.events()


def test_a_lost_header_table_is_told_once() -> None:
    """Whatever else cannot be read later, on either side."""
    wire = Wire()
    bad = frames.frame(frames.HEADERS, 0x4 | frames.PADDED, 1, b"\xffabc")
    for _ in range(3):
        wire.client(bad)
        wire.upstream(bad)
    assert len(wire.events()) == 1


def test_upstreams_lost_header_table_is_the_same() -> None:
    """The outcome of a call cannot be read any more."""
    wire = Wire()
    wire.call(1)
    wire.call(3)
    wire.core.forward(3, None)
    wire.events()
    wire.upstream(frames.frame(frames.HEADERS, 0x5, 3, b"\x80"))
    first, *rest = wire.events()
    assert isinstance(first, Notice)
    assert rest == [CallCancelled(1), CallEnded(3, 2, False, "")]
    assert wire.to_client()[-1].payload == b"\x80"


def test_windows_stay_true_after_the_table_is_lost() -> None:
    """A debt is still paid."""
    wire = Wire()
    wire.call(1, b"")
    wire.core.forward(1, b"x" * 100)
    wire.client(frames.frame(frames.HEADERS, 0x5, 3, b"\x80"))
    wire.to_client()
    wire.upstream(frames.window_update(0, 105))
    assert wire.to_client() == [Frame(frames.WINDOW_UPDATE, 0, 0, (5).to_bytes(4, "big"))]


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_malformed_padding_of_headers_is_passed_on(side: str) -> None:
    """An error that the other end answers; the relay cannot read on."""
    wire = Wire()
    bad = frames.frame(frames.HEADERS, 0x4 | frames.PADDED, 1, b"\xffabc")
    getattr(wire, side)(bad)
    sent = wire.to_upstream() if side == "client" else wire.to_client()
    assert sent == [Frame(frames.HEADERS, 0xC, 1, b"\xffabc")]
    assert isinstance(wire.events()[0], Notice)


def test_malformed_padding_of_held_data_ends_the_connection() -> None:
    """What is held cannot be told from its padding."""
    wire = Wire()
    wire.open(1)
    with pytest.raises(FrameError) as caught:
        wire.client(frames.frame(frames.DATA, frames.PADDED, 1, b"\xffabc"))
    assert caught.value.h2_code == frames.PROTOCOL_ERROR


@pytest.mark.parametrize("shown", [100, None])
def test_a_held_frame_over_the_announced_size_ends_the_connection(shown: int | None) -> None:
    """It is not waited for, nor cut into legal ones when it has come at once."""
    wire = Wire()
    wire.open(1)
    with pytest.raises(FrameError) as caught:
        wire.client(frames.frame(frames.DATA, 0, 1, bytes(16_385))[:shown])
    assert caught.value.h2_code == frames.FRAME_SIZE_ERROR


def test_larger_frames_are_held_where_upstream_accepts_them() -> None:
    """From the announcement on, which the client may know before its ACK is here."""
    wire = Wire()
    wire.announce(frames.SETTINGS_MAX_FRAME_SIZE, 40_000)
    wire.open(1)
    wire.data(1, message(b"x" * 39_000))
    wire.core.forward(1, None)
    sent = [frame for frame in wire.to_upstream() if frame.kind == frames.DATA]
    assert max(len(frame.payload) for frame in sent) == 16_384
    assert body(sent, 1) == message(b"x" * 39_000)


def test_a_frame_error_can_be_told_to_the_client() -> None:
    """GOAWAY with the code and the last stream, behind what has gone out."""
    wire = Wire()
    wire.open(5, OTHER)
    with pytest.raises(FrameError) as caught:
        wire.client(frames.frame(frames.HEADERS, 4, 7, bytes(HEADER_BLOCK_BYTES + 1)))
    wire.core.go_away(caught.value)
    (away,) = wire.to_client()
    assert away.kind == frames.GOAWAY
    assert away.payload[:8] == (5).to_bytes(4, "big") + b"\0\0\0\x0b"


def test_live_streams_are_those_that_have_not_ended() -> None:
    """Ended by upstream, or reset by either side."""
    wire = Wire()
    for stream in (1, 3, 5, 7):
        wire.open(stream, OTHER)
    wire.answer(1)
    wire.client(frames.rst_stream(3, 8))
    wire.upstream(frames.rst_stream(5, 8))
    assert wire.core.live == {7: OTHER}
    wire.upstream(frames.frame(frames.DATA, frames.END_STREAM, 7))
    assert not wire.core.live


def test_watched_calls_begin_and_end_once() -> None:
    """Every call, opened or not, however it ends; nothing is told where nobody watches."""
    wire = Wire()
    wire.open(1, OTHER)
    assert not wire.events()
    wire.core.watched = True
    for stream in (3, 5, 7, 9, 13):
        wire.open(stream, OTHER)
    wire.call(15)
    wire.answer(3)
    wire.client(frames.rst_stream(3, 8))
    wire.client(frames.rst_stream(5, 8))
    wire.upstream(frames.rst_stream(7, 8))
    wire.upstream(frames.frame(frames.DATA, frames.END_STREAM, 9))
    wire.core.refuse(15, 5, "no")
    wire.core.close()
    wire.core.close()
    events = wire.events()
    assert [e.stream for e in events if isinstance(e, StreamBegan)] == [3, 5, 7, 9, 13, 15]
    ended = {e.stream: (e.path, e.status) for e in events if isinstance(e, StreamEnded)}
    assert ended == {
        1: (OTHER, 14),
        3: (OTHER, 0),
        5: (OTHER, 1),
        7: (OTHER, 1),
        9: (OTHER, 2),
        15: (PULL, 5),
        13: (OTHER, 14),
    }
    assert sum(isinstance(e, StreamEnded) for e in events) == 7


@pytest.mark.parametrize(("given_up", "status"), [(True, 1), (False, 14)])
def test_who_ends_a_connection_ends_its_calls(given_up: bool, status: int) -> None:
    """A client that dies has cancelled them; that the runtime goes makes it UNAVAILABLE."""
    wire = Wire()
    wire.core.watched = True
    wire.open(1, OTHER)
    wire.call(3)
    wire.core.forward(3, None)
    wire.events()
    wire.core.close(given_up=given_up)
    assert wire.events() == [
        CallEnded(3, status, False, ""),
        StreamEnded(1, OTHER, status),
        StreamEnded(3, PULL, status),
    ]


def test_late_trailers_open_no_stream() -> None:
    """The client ends its side after upstream has answered."""
    wire = Wire()
    wire.open(1, OTHER)
    wire.answer(1)
    block = wire.request_encoder.encode([(b":path", PULL)])
    wire.client(frames.frame(frames.HEADERS, 0x4, 1, block))
    assert not wire.core.live
    assert not wire.core._state.opened


def test_too_many_streams_are_enhance_your_calm() -> None:
    """Where upstream itself sets no limit."""
    wire = Wire()
    wire.open(1, OTHER)
    block = b"\xbe"
    last = 2 * TRACKED_STREAMS + 1
    for stream in range(3, last, 2):
        wire.client(frames.frame(frames.HEADERS, 0x4, stream, block))
    with pytest.raises(FrameError) as caught:
        wire.client(frames.frame(frames.HEADERS, 0x4, last, block))
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM
    assert len(wire.core.live) == TRACKED_STREAMS


def test_refused_streams_that_the_client_never_ends_count_as_well() -> None:
    """Each one is remembered until the client ends or resets it."""
    wire = Wire()
    wire.core._state.live.update({-number: b"" for number in range(1, TRACKED_STREAMS)})
    wire.open(1)
    wire.data(1, message(b"x"), end=False)
    wire.core.refuse(1, 5, "no")
    assert len(wire.core.live) == TRACKED_STREAMS - 1
    with pytest.raises(FrameError):
        wire.open(3, OTHER)


def test_go_away_lets_running_calls_end() -> None:
    """The largest stream number, no error (§6.8)."""
    wire = Wire()
    wire.core.go_away()
    (away,) = wire.to_client()
    assert away.payload == b"\x7f\xff\xff\xff" + bytes(4)


@pytest.mark.parametrize("seed", range(10))
def test_any_rechunking_of_the_same_bytes_comes_out_the_same(seed: int) -> None:
    """With held calls between them, decided at the same places."""
    rng = random.Random(seed)
    plain = Wire()
    parts: list[tuple[str, bytes]] = []
    for number in range(12):
        stream = 2 * number + 1
        path = rng.choice([PULL, OTHER])
        block = plain.request_encoder.encode([(b":path", path), (b"x", b"%d" % rng.randint(0, 3))])
        sent = frames.frame(frames.HEADERS, 0x4, stream, block)
        sent += frames.frame(frames.DATA, 1, stream, message(rng.randbytes(rng.randint(0, 50))))
        parts.append(("client", sent))
        block = plain.response_encoder.encode([*RESPONSE, (b"y", b"%d" % rng.randint(0, 3))])
        sent = frames.frame(frames.HEADERS, 0x4, stream, block)
        sent += frames.frame(frames.DATA, 1, stream, message(b"z" * rng.randint(0, 50)))
        parts.append(("upstream", sent))
    assert played(parts, rng, 1 << 20) == played(parts, rng, 1) == played(parts, rng, 20)


def played(parts: list[tuple[str, bytes]], rng: random.Random, size: int) -> tuple[bytes, bytes]:
    """What both sides get when the parts come in chunks of at most `size` bytes."""
    wire = Wire()
    for side, data in parts:
        position = 0
        while position < len(data):
            end = position + rng.randint(1, size)
            getattr(wire, side)(data[position:end])
            position = end
        for event in wire.events():
            stream = getattr(event, "stream", 0)
            if stream % 3:
                wire.core.forward(stream, b"q" * (stream % 40))
            else:
                wire.core.refuse(stream, 5, "no")
    return b"".join(wire.core.take_to_upstream()), b"".join(wire.core.take_to_client())
