"""Frames: what the relay writes is what RFC 9113 says, and padding is read within bounds."""

from __future__ import annotations

import hpack
import pytest

from shimcore.relay import frames
from shimcore.relay.limits import REFUSAL_TEXT_BYTES
from tests.support.wire import parse


def test_a_frame_has_nine_bytes_of_header() -> None:
    """Length, type, flags and stream stand before the payload (§4.1)."""
    assert frames.frame(0x1, 0x5, 7, b"abc") == bytes.fromhex("000003 01 05 00000007") + b"abc"
    assert frames.frame(0x0, 0, 1, bytes(70_000))[:3] == (70_000).to_bytes(3, "big")


def test_control_frames() -> None:
    """WINDOW_UPDATE, RST_STREAM and GOAWAY carry their numbers."""
    assert frames.window_update(3, 0x102) == bytes.fromhex("000004 08 00 00000003 00000102")
    assert frames.rst_stream(5, frames.CANCEL) == bytes.fromhex("000004 03 00 00000005 00000008")
    away = frames.goaway(9, frames.NO_ERROR, "bye")
    assert away == bytes.fromhex("00000b 07 00 00000000 00000009 00000000") + b"bye"


@pytest.mark.parametrize(
    ("payload", "content"),
    [(b"\x00abc", b"abc"), (b"\x02abc\0\0", b"abc"), (b"\x03\0\0\0", b"")],
)
def test_padding_is_taken_off(payload: bytes, content: bytes) -> None:
    """The first byte says how much of the end is padding (§6.1)."""
    start, end = frames.unpadded(payload, 0, len(payload), frames.PADDED)
    assert payload[start:end] == content


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x04abc"])
def test_padding_longer_than_the_frame_is_an_error(payload: bytes) -> None:
    """A padding that the payload cannot hold is not read past its end."""
    with pytest.raises(ValueError, match="padding"):
        frames.unpadded(payload, 0, len(payload), frames.PADDED)


def test_priority_is_taken_off_after_padding() -> None:
    """A HEADERS payload is pad length, priority, fragment, padding (§6.2)."""
    flags = frames.PADDED | frames.PRIORITY_FLAG
    payload = b"\x01" + b"\0\0\0\0\x0f" + b"block" + b"\0"
    assert frames.header_fragment(payload, 0, len(payload), flags) == b"block"
    with pytest.raises(ValueError, match="priority"):
        frames.header_fragment(b"\0\0\0", 0, 3, frames.PRIORITY_FLAG)


def test_a_refusal_is_one_frame_of_literals_that_touch_no_table() -> None:
    """Its exact bytes: :status by static index, the rest literal, never indexed into a table."""
    sent = frames.refusal(7, 5, "no", answered=False)
    block = (
        b"\x88"
        b"\x00\x0ccontent-type\x10application/grpc"
        b"\x00\x0bgrpc-status\x015"
        b"\x00\x0cgrpc-message\x02no"
    )
    assert sent == frames.frame(frames.HEADERS, 0x5, 7, block)
    decoder = hpack.Decoder()
    assert dict(decoder.decode(block, raw=True))[b"grpc-status"] == b"5"
    assert not decoder.header_table.dynamic_entries


def test_a_refusal_after_the_response_headers_is_trailers() -> None:
    """No second :status and content-type where the first HEADERS have gone out."""
    (sent,) = parse(frames.refusal(7, 14, "gone", answered=True))
    assert sent.payload == b"\x00\x0bgrpc-status\x0214\x00\x0cgrpc-message\x04gone"
    assert sent.flags == frames.END_HEADERS | frames.END_STREAM


def test_a_refusal_begins_with_the_size_update_that_is_owed() -> None:
    """A table size update stands before the first field (RFC 7541 §4.2)."""
    (sent,) = parse(frames.refusal(1, 5, "", answered=False, prefix=frames.size_update(60)))
    assert sent.payload.startswith(frames.size_update(60) + b"\x88")


def test_a_refusal_text_is_percent_encoded() -> None:
    """Bytes outside of printable ASCII, and the percent sign, are written as %XX."""
    (sent,) = parse(frames.refusal(1, 5, "50% of nö\nway", answered=False))
    assert sent.payload.endswith(b"50%25 of n%C3%B6%0Away")


def test_a_long_refusal_text_is_cut_at_a_character() -> None:
    """The block fits in the smallest frame that every peer accepts, and stays UTF-8."""
    (sent,) = parse(frames.refusal(1, 5, "é" * 10_000, answered=False))
    assert len(sent.payload) <= frames.OWN_FRAME_BYTES
    fields = dict(hpack.Decoder().decode(sent.payload, raw=True))
    assert fields[b"grpc-message"] == b"%C3%A9" * (REFUSAL_TEXT_BYTES // 2)
    (odd,) = parse(frames.refusal(1, 5, "a" + "é" * 10_000, answered=False))
    assert odd.payload.endswith(b"%C3%A9")


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 4096])
def test_literal_strings_of_every_length_decode(length: int) -> None:
    """A length over 126 is continued in further bytes (RFC 7541 §5.1)."""
    (sent,) = parse(frames.refusal(1, 5, "x" * length, answered=False))
    fields = dict(hpack.Decoder().decode(sent.payload, raw=True))
    assert fields[b"grpc-message"] == b"x" * length


@pytest.mark.parametrize("size", [0, 1, 30, 31, 32, 158, 159, 4096, 65_536])
def test_size_updates_decode(size: int) -> None:
    """A table size is a 5-bit prefixed integer (RFC 7541 §6.3)."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 1 << 20
    decoder.decode(frames.size_update(size))
    assert decoder.header_table_size == size
