"""Huffman code a piece at a time: the same string, and the same errors."""

from __future__ import annotations

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from shimcore.relay import frames
from shimcore.relay.headers import HeaderDecoder, LongString, decode_string
from shimcore.relay.limits import BLOCK_PIECE_BYTES
from tests.support.wire import Wire

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def in_pieces(coded: bytes, size: int) -> bytes:
    """The string of a code that is decoded so many bytes at a time."""
    string = LongString(coded)
    while (value := string.step(size)) is None:
        pass
    return value


@given(st.binary(min_size=1, max_size=300), st.integers(1, 40))
def test_pieces_give_what_was_encoded(text: bytes, size: int) -> None:
    """Wherever the cuts are."""
    assert in_pieces(ENCODER.encode(text), size) == text


@given(st.binary(min_size=1, max_size=80), st.integers(1, 20))
def test_pieces_give_what_the_whole_gives(coded: bytes, size: int) -> None:
    """For any bytes: the same string, or an error both times."""
    try:
        whole: bytes | None = decode_string(coded)
    except HPACKDecodingError:
        whole = None
    if whole is None:
        with pytest.raises(HPACKDecodingError):
            in_pieces(coded, size)
    else:
        assert in_pieces(coded, size) == whole


def long_field(size: int) -> bytes:
    """A block with one field, not indexed, whose value is that long in Huffman code."""
    value = ENCODER.encode(b"0" * (size * 8 // 5))
    length = len(value) - 0x7F
    number = bytearray()
    while length >= 0x80:
        number.append(length & 0x7F | 0x80)
        length >>= 7
    number.append(length)
    return b"\x00\x03x-a\xff" + bytes(number) + value


@pytest.mark.parametrize("size", [5_000, 100_000])
def test_a_long_field_takes_many_steps(size: int) -> None:
    """None of them decodes more than a piece."""
    decoder = HeaderDecoder()
    fields = decoder.begin(long_field(size))
    steps = 0
    while fields is None:
        fields = decoder.go_on()
        steps += 1
    assert steps >= size // BLOCK_PIECE_BYTES
    assert fields == [(b"x-a", b"0" * (size * 8 // 5))]


def test_a_long_block_goes_on_byte_by_byte_as_it_came() -> None:
    """A call with 60 KiB of metadata that is not opened; others have their turn meanwhile."""
    wire = Wire()
    block = wire.request_encoder.encode(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x/Echo")]
    ) + long_field(60_000)
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    sent = b""
    for index, part in enumerate(parts):
        kind = frames.CONTINUATION if index else frames.HEADERS
        last = frames.END_HEADERS if index == len(parts) - 1 else 0
        sent += frames.frame(kind, last, 1, part)
    more = wire.core.from_client(sent, 10)
    turns = 0
    while more:
        more = wire.core.more_from_client(10)
        turns += 1
    assert turns >= 60_000 // BLOCK_PIECE_BYTES // 10
    assert b"".join(wire.core.take_to_upstream()) == sent
