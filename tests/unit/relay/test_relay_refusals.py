"""Refusals: the client's answer, upstream's reset, and what upstream still had on its way."""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.events import CallCancelled
from shimcore.relay.limits import REFUSED_STREAMS
from tests.support.wire import CANCEL, RESPONSE, TRAILERS, Frame, Wire, credit, message, setting

TABLE = frames.SETTINGS_HEADER_TABLE_SIZE


def refused(wire: Wire, stream: int = 1) -> None:
    """A call, refused, with everything taken that came of it."""
    wire.call(stream)
    assert wire.core.refuse(stream, 5, "not here")
    wire.to_client()
    wire.to_upstream()
    wire.events()


def test_the_client_gets_a_status_and_upstream_a_reset() -> None:
    """A trailers-only answer here, CANCEL there, and the held bytes are credited."""
    wire = Wire()
    wire.call(1)
    wire.to_upstream()
    assert wire.core.refuse(1, 5, "not here")
    answer, given = wire.to_client()
    assert (answer.kind, answer.flags) == (frames.HEADERS, 0x5)
    assert wire.decoded(answer.payload) == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"5"),
        (b"grpc-message", b"not here"),
    ]
    assert given == Frame(frames.WINDOW_UPDATE, 0, 0, (10).to_bytes(4, "big"))
    assert wire.to_upstream() == [Frame(frames.RST_STREAM, 0, 1, CANCEL)]
    assert wire.core.requests.windows == (65_535, 65_535, 0)
    assert not wire.core.live


def test_after_the_response_headers_a_refusal_is_trailers() -> None:
    """A runtime may send its HEADERS before it has the request."""
    wire = Wire()
    wire.call(1)
    wire.headers(1, RESPONSE)
    wire.core.refuse(1, 5, "no")
    _, answer, _ = wire.to_client()
    assert wire.decoded(answer.payload) == [(b"grpc-status", b"5"), (b"grpc-message", b"no")]


def test_informational_headers_are_no_answer() -> None:
    """After 1xx the refusal still begins with :status (RFC 9113 §8.1)."""
    wire = Wire()
    wire.call(1)
    wire.headers(1, [(b":status", b"103")])
    wire.core.refuse(1, 5, "no")
    _, answer, _ = wire.to_client()
    assert wire.decoded(answer.payload)[0] == (b":status", b"200")


def test_a_refusal_while_the_response_headers_are_on_their_way_is_trailers() -> None:
    """The block that has begun is finished first, then the call is."""
    wire = Wire()
    wire.call(1)
    block = wire.response_encoder.encode(RESPONSE)
    wire.upstream(frames.frame(frames.HEADERS, 0, 1, block[:3]))
    wire.core.refuse(1, 5, "no")
    assert [frame.kind for frame in wire.to_client()] == [frames.HEADERS]
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:]))
    sent = wire.to_client()
    assert [frame.kind for frame in sent] == [9, 1, 8]
    assert sent[1].payload.startswith(b"\x00\x0bgrpc-status")


def test_a_refusal_while_upstreams_own_end_is_on_its_way_is_too_late() -> None:
    """A stream is not ended twice: the call is upstream's, and the decision is cancelled."""
    wire = Wire()
    wire.call(1)
    wire.events()
    block = wire.response_encoder.encode([*RESPONSE, *TRAILERS])
    wire.upstream(frames.frame(frames.HEADERS, frames.END_STREAM, 1, block[:3]))
    assert not wire.core.refuse(1, 5, "no")
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:]))
    assert [frame.kind for frame in wire.to_client()] == [1, 9, 8]
    assert wire.events() == [CallCancelled(1)]


def test_late_headers_that_change_no_table_are_dropped() -> None:
    """The client has its answer."""
    wire = Wire()
    refused(wire)
    block = b"\x88\x00\x01a\x01b"
    wire.upstream(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert not wire.to_client()


def test_late_headers_that_change_the_table_are_forwarded() -> None:
    """A client ignores them on a closed stream, and its table stays in step."""
    wire = Wire()
    refused(wire)
    wire.headers(1, [(b":status", b"200"), (b"x-new", b"value")])
    (late,) = wire.to_client()
    wire.decoded(late.payload)
    wire.call(3)
    wire.to_client()
    wire.headers(3, [(b":status", b"200"), (b"x-new", b"value")])
    (answer,) = wire.to_client()
    assert wire.decoded(answer.payload)[1] == (b"x-new", b"value")


def test_a_late_size_update_counts_as_a_change() -> None:
    """A block without indexed fields can still move the table."""
    wire = Wire()
    refused(wire)
    block = frames.size_update(100) + b"\x88"
    wire.upstream(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert [frame.payload for frame in wire.to_client()] == [block]


def test_late_header_blocks_in_pieces_stay_together() -> None:
    """HEADERS and CONTINUATION go on as one run, or not at all."""
    wire = Wire()
    refused(wire)
    wire.upstream(frames.frame(frames.HEADERS, 0, 1, b"\x40\x01a"))
    assert not wire.to_client()
    wire.call(3)
    wire.core.refuse(3, 5, "no")
    assert [frame.kind for frame in wire.to_client()] == [frames.HEADERS, frames.WINDOW_UPDATE]
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"\x01b"))
    assert [(f.kind, f.payload) for f in wire.to_client()] == [(1, b"\x40\x01a"), (9, b"\x01b")]


def test_late_data_is_dropped_and_credited_to_upstream() -> None:
    """With its padding, on the connection; the client's window does not notice."""
    wire = Wire()
    refused(wire)
    padded = frames.frame(frames.DATA, frames.PADDED, 1, b"\x02abc\0\0")
    wire.upstream(padded[:8])
    wire.upstream(padded[8:] + frames.frame(frames.DATA, frames.END_STREAM, 1, b""))
    assert not wire.to_client()
    assert wire.to_upstream() == [Frame(frames.WINDOW_UPDATE, 0, 0, (6).to_bytes(4, "big"))]


def test_late_resets_and_window_updates_are_dropped() -> None:
    """They are of a stream that is over for the client."""
    wire = Wire()
    refused(wire)
    wire.upstream(frames.window_update(1, 10))
    wire.upstream(frames.rst_stream(1, frames.CANCEL))
    assert not wire.to_client()
    assert not wire.to_upstream()


def test_what_the_client_still_sends_is_dropped_and_credited() -> None:
    """A request that is refused before it is whole."""
    wire = Wire()
    wire.open(1)
    wire.data(1, message(b"image")[:7], end=False)
    wire.core.refuse(1, 8, "no")
    assert credit(wire.to_client(), 0) == 7
    wire.to_upstream()
    wire.data(1, b"abc", end=False)
    assert wire.to_client() == [Frame(frames.WINDOW_UPDATE, 0, 0, (3).to_bytes(4, "big"))]
    wire.client(frames.rst_stream(1, frames.CANCEL))
    assert not wire.to_upstream(), "upstream has been told already"
    assert wire.core.requests.windows == (65_535, 65_535, 0)


def test_trailers_after_a_refusal_reach_upstream_only_if_they_change_its_table() -> None:
    """And they do not open the call anew."""
    wire = Wire()
    for stream, block, goes_on in ((1, b"\x00\x01a\x01b", False), (3, b"\x40\x01a\x01b", True)):
        wire.open(stream)
        wire.data(stream, message(b"image"), end=False)
        wire.core.refuse(stream, 5, "no")
        wire.to_upstream()
        wire.client(frames.frame(frames.HEADERS, 0x5, stream, block))
        assert bool(wire.to_upstream()) is goes_on
        assert not wire.core.live
        assert not wire.core._state.opened


def test_a_refusal_waits_for_the_frame_that_is_on_its_way() -> None:
    """It stands between two frames."""
    wire = Wire()
    wire.open(1, b"/runtime/Status")
    wire.headers(1, RESPONSE)
    wire.call(3)
    wire.to_client()
    data = frames.frame(frames.DATA, 0, 1, b"x" * 100)
    wire.upstream(data[:50])
    wire.core.refuse(3, 5, "no")
    out = b"".join(wire.core.take_to_client())
    assert out == data[:50]
    wire.upstream(data[50:])
    out += b"".join(wire.core.take_to_client())
    assert out.startswith(data)
    assert out[len(data) + 3] == frames.HEADERS


def test_a_refusal_waits_for_the_header_block_that_is_on_its_way() -> None:
    """HEADERS and CONTINUATION of one side are never interleaved with anything."""
    wire = Wire()
    wire.open(1, b"/runtime/Status")
    wire.call(3)
    block = wire.response_encoder.encode(RESPONSE)
    wire.upstream(frames.frame(frames.HEADERS, 0, 1, block[:2]))
    wire.core.refuse(3, 5, "no")
    wire.upstream(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[2:]))
    assert [(f.kind, f.stream) for f in wire.to_client()] == [(1, 1), (9, 1), (1, 3), (8, 0)]


def test_nothing_of_ours_goes_before_the_servers_settings() -> None:
    """A client may send calls before it has heard from the server (§3.4)."""
    wire = Wire(shaken=False)
    wire.client(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0))
    wire.call(1)
    wire.core.refuse(1, 5, "no")
    wire.core.go_away()
    assert not wire.core.take_to_client()
    hello = frames.frame(frames.SETTINGS, 0, 0, setting(TABLE, 4096))
    wire.upstream(hello[:10])
    assert not wire.core.take_to_client()
    wire.upstream(hello[10:])
    kinds = [frame.kind for frame in wire.to_client()]
    assert kinds == [frames.SETTINGS, frames.HEADERS, frames.WINDOW_UPDATE, frames.GOAWAY]


def shrunk(wire: Wire, *sizes: int) -> None:
    """The client has made its table smaller, and upstream has acknowledged that."""
    for size in sizes:
        wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(TABLE, size)))
        wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
        wire.client_decoder.max_allowed_table_size = size
        wire.response_encoder.header_table_size = size


def test_a_refusal_brings_the_size_update_that_the_client_waits_for() -> None:
    """Its decoder wants one in the first block after the ACK, whoever sends it."""
    wire = Wire()
    wire.call(1)
    wire.headers(1, [(b":status", b"200"), (b"x", b"y")])
    wire.decoded(wire.to_client()[0].payload)
    wire.call(3)
    shrunk(wire, 60)
    wire.core.refuse(3, 5, "no")
    sent = [frame for frame in wire.to_client() if frame.kind == frames.HEADERS]
    assert sent[0].payload.startswith(frames.size_update(60) + b"\x88")
    wire.decoded(sent[0].payload)
    wire.headers(1, [(b"x", b"y"), (b"grpc-status", b"0")], end=True)
    sent = [frame for frame in wire.to_client() if frame.kind == frames.HEADERS]
    assert wire.decoded(sent[0].payload)[0] == (b"x", b"y")


def test_the_owed_size_update_is_the_smallest_since_upstreams_last_block() -> None:
    """Smaller and larger again still has to evict what the smaller one did."""
    wire = Wire()
    wire.call(1)
    shrunk(wire, 60, 4096)
    wire.core.refuse(1, 5, "no")
    sent = [frame for frame in wire.to_client() if frame.kind == frames.HEADERS]
    assert sent[0].payload.startswith(frames.size_update(60))
    wire.call(3)
    wire.core.refuse(3, 5, "no")
    sent = [frame for frame in wire.to_client() if frame.kind == frames.HEADERS]
    assert sent[0].payload.startswith(b"\x88"), "owed once"


def test_nothing_is_owed_when_upstream_has_sent_its_size_update() -> None:
    """A second one would put the client's table where upstream's is not."""
    wire = Wire()
    wire.call(1)
    wire.call(3)
    shrunk(wire, 60, 4096)
    wire.upstream(frames.frame(frames.HEADERS, 0x5, 1, b"\x3f\x1d\x3f\xe1\x1f\x88"))
    wire.to_client()
    wire.core.refuse(3, 5, "no")
    assert wire.to_client()[0].payload.startswith(b"\x88")


def test_refused_streams_are_remembered_up_to_a_bound() -> None:
    """The oldest is forgotten first."""
    wire = Wire()
    for number in range(REFUSED_STREAMS + 10):
        refused(wire, 2 * number + 1)
    assert len(wire.core._state.refused) == REFUSED_STREAMS
    assert 1 not in wire.core._state.refused


def test_a_refused_call_whose_headers_wait_is_reset_behind_them() -> None:
    """RST_STREAM before its HEADERS would be for a stream that upstream does not know."""
    wire = Wire()
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 3)
    wire.acknowledge()
    wire.open(1)
    wire.data(1, b"\x07ab", end=False)
    wire.client(frames.frame(frames.DATA, 0, 1, b"cd"))
    trailers = wire.request_encoder.encode([(b"x-end", b"1")])
    wire.client(frames.frame(frames.HEADERS, 0x5, 1, trailers))
    wire.call(3, b"")
    wire.core.refuse(3, 5, "no")
    assert [frame.stream for frame in wire.to_upstream()] == [0, 1, 1]
    wire.upstream(frames.window_update(1, 10))
    assert [(f.kind, f.stream) for f in wire.to_upstream()] == [(0, 1), (1, 1), (1, 3), (3, 3)]
