"""How opened calls end, and what is told of it."""

from __future__ import annotations

import pytest

from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallEnded
from shimcore.relay.limits import REFUSAL_TEXT_BYTES
from tests.support.wire import CANCEL, RESPONSE, TRAILERS, Frame, Wire, message


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
