"""gRPC messages: gathered, inflated with a cap, or left alone."""

from __future__ import annotations

import gzip
import zlib

import pytest

from shimcore.relay.limits import MESSAGE_BYTES
from shimcore.relay.messages import (
    UnreadableMessageError,
    timeout_seconds,
    whole_length,
    write_message,
)
from tests.support.raw import read_message


def compressed(packed: bytes) -> bytes:
    """A message whose flag says that it is compressed."""
    return b"\x01" + len(packed).to_bytes(4, "big") + packed


def test_the_length_is_known_with_the_prefix() -> None:
    """Flag and length are five bytes; before they are there nothing is known."""
    assert whole_length(b"\0\0\0\0") is None
    assert whole_length(b"\0\0\0\0\x07") == 12
    assert whole_length(b"\x01\0\0\0\x00abc") == 5


def test_an_unknown_flag_is_unreadable() -> None:
    """gRPC defines 0 and 1."""
    with pytest.raises(UnreadableMessageError, match="flag 2"):
        whole_length(b"\x02\0\0\0\0")


def test_a_message_over_16_mib_is_unreadable() -> None:
    """The limit itself is still read."""
    assert whole_length(b"\0" + MESSAGE_BYTES.to_bytes(4, "big")) == MESSAGE_BYTES + 5
    with pytest.raises(UnreadableMessageError, match="over"):
        whole_length(b"\0" + (MESSAGE_BYTES + 1).to_bytes(4, "big"))


def test_written_messages_are_read_back() -> None:
    """Flag 0 is uncompressed under any encoding."""
    assert read_message(write_message(b"hello"), b"gzip") == b"hello"
    assert write_message(b"") == bytes(5)


def test_gzip_is_inflated() -> None:
    """Flag 1 with grpc-encoding gzip."""
    assert read_message(compressed(gzip.compress(b"hello", mtime=0)), b"gzip") == b"hello"


def test_gzip_inflates_to_16_mib_and_no_further() -> None:
    """A small message cannot make the relay keep more than the limit."""
    limit = gzip.compress(bytes(MESSAGE_BYTES))
    assert len(read_message(compressed(limit), b"gzip")) == MESSAGE_BYTES
    with pytest.raises(UnreadableMessageError, match="gzip"):
        read_message(compressed(gzip.compress(bytes(MESSAGE_BYTES + 1))), b"gzip")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"not gzip",
        gzip.compress(b"hello", mtime=0)[:-3],
        gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0),
        zlib.compress(b"zlib"),
    ],
)
def test_what_is_not_one_gzip_stream_is_unreadable(packed: bytes) -> None:
    """Cut, foreign or more than one: not ours to judge."""
    with pytest.raises(UnreadableMessageError, match="gzip"):
        read_message(compressed(packed), b"gzip")


@pytest.mark.parametrize("encoding", [b"identity", b"deflate", b"snappy", b"zstd", b"\xff"])
def test_other_encodings_are_unreadable(encoding: bytes) -> None:
    """Only gzip is inflated; the message names what it met."""
    with pytest.raises(UnreadableMessageError, match="encoding"):
        read_message(compressed(gzip.compress(b"x", mtime=0)), encoding)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"5S", 5.0),
        (b"2M", 120.0),
        (b"1H", 3600.0),
        (b"1500m", 1.5),
        (b"10u", 1e-5),
        (b"99999999n", 0.099999999),
        (b"", None),
        (b"S", None),
        (b"5", None),
        (b"5s", None),
        (b"-5S", None),
        (b"123456789S", None),
    ],
)
def test_timeouts(value: bytes, seconds: float | None) -> None:
    """1 to 8 digits and a unit; anything else counts as none."""
    assert timeout_seconds(value) == (None if seconds is None else pytest.approx(seconds))
