"""HTTP/2 frames as the relay reads and writes them (RFC 9113 §4.1, §6)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from urllib.parse import quote_from_bytes

from hpack.hpack import encode_integer

from shimcore.errors import FrameError
from shimcore.relay.limits import REFUSAL_TEXT_BYTES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES = 9
STREAM_MASK = 0x7FFFFFFF
MAX_WINDOW = 0x7FFFFFFF
DEFAULT_WINDOW = 65_535
# Frames of the relay's own are never longer than what every peer accepts.
OWN_FRAME_BYTES = 16_384

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x01
ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
PRIORITY_FLAG = 0x20

SETTINGS_HEADER_TABLE_SIZE = 0x1
SETTINGS_INITIAL_WINDOW_SIZE = 0x4
SETTINGS_MAX_FRAME_SIZE = 0x5

PING_BYTES = 8

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
FLOW_CONTROL_ERROR = 0x3
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

# Length as 16 + 8 bits, type, flags, stream with its reserved bit.
FRAME_HEADER = Struct(">HBBBL")
_SETTING = Struct(">HL")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of the relay's own."""
    size = len(payload)
    return FRAME_HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE for `increment` bytes; stream 0 is the connection (§6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM with an error code of §7."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int, text: str = "") -> bytes:
    """GOAWAY; `text` is its debug data (§6.8)."""
    numbers = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")
    return frame(GOAWAY, 0, 0, numbers + text.encode())


def settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Each (identifier, value) of a SETTINGS payload, whose length is a multiple of 6."""
    return _SETTING.iter_unpack(payload)


def unpadded(data: bytes, start: int, end: int, flags: int) -> tuple[int, int]:
    """Where the content of a padded frame's payload begins and ends (§6.1).

    Raises ValueError when the padding is longer than the payload.
    """
    if not flags & PADDED:
        return start, end
    if start >= end or start + 1 + data[start] > end:
        raise ValueError("padding exceeds the frame")
    return start + 1, end - data[start]


def header_fragment(data: bytes, start: int, end: int, flags: int) -> bytes:
    """The field block fragment of a HEADERS payload: padding and priority taken off (§6.2)."""
    if not flags & (PADDED | PRIORITY_FLAG):
        return data[start:end]
    start, end = unpadded(data, start, end, flags)
    if flags & PRIORITY_FLAG:
        start += 5
        if start > end:
            raise ValueError("HEADERS too short for its priority")
    return data[start:end]


def _literal(name: bytes, value: bytes) -> bytes:
    """A literal field without indexing and with a new name (RFC 7541 §6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(value: bytes) -> bytes:
    return bytes(encode_integer(len(value), 7)) + value


# :status 200 is the eighth entry of the static table.
_RESPONSE = b"\x88" + _literal(b"content-type", b"application/grpc")


def size_update(size: int) -> bytes:
    """A dynamic table size update (RFC 7541 §6.3)."""
    number = encode_integer(size, 5)
    number[0] |= 0x20
    return bytes(number)


def refusal(stream: int, code: int, text: str, *, answered: bool, prefix: bytes = b"") -> bytes:
    """HEADERS that end a call with a gRPC status and touch no header table.

    `answered`: the response's first HEADERS have gone out, so that these are its trailers.
    `prefix`: a table size update that the peer's decoder waits for. The text is
    percent-encoded as the gRPC wire format wants it.
    """
    message = quote_from_bytes(
        text.encode()[:REFUSAL_TEXT_BYTES].decode(errors="ignore").encode(),
        safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~",
    ).encode()
    block = prefix
    if not answered:
        block += _RESPONSE
    block += _literal(b"grpc-status", str(code).encode()) + _literal(b"grpc-message", message)
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block)


def response(stream: int, prefix: bytes = b"") -> bytes:
    """HEADERS that begin an answer and touch no header table; `prefix` as for a refusal."""
    return frame(HEADERS, END_HEADERS, stream, prefix + _RESPONSE)


def trailers(stream: int, prefix: bytes = b"") -> bytes:
    """HEADERS that end an answer with status OK, likewise."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, prefix + _literal(b"grpc-status", b"0"))


def flow_control_error(writer: str) -> FrameError:
    """A peer sent more than its window allows (§6.9.1)."""
    return FrameError(FLOW_CONTROL_ERROR, f"{writer} sent more than its flow-control window")
