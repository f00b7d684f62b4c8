"""gRPC's length-prefixed messages, gathered from DATA frames (gRPC over HTTP/2, "Requests")."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from shimcore.errors import ShimError
from shimcore.relay.events import Metadata
from shimcore.relay.limits import INFLATED_BYTES, MESSAGE_BYTES, REFUSAL_TEXT_BYTES

PREFIX_BYTES = 5
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# gRPC over HTTP/2, "Requests", and RFC 9113 §8.2.2; all that begins with `:` or `grpc-` as well,
# of which every request has some.
_TRANSPORTS_OWN = frozenset(
    b"connection content-length content-type host keep-alive proxy-connection te"
    b" transfer-encoding upgrade user-agent"
    b" :authority :method :path :scheme grpc-accept-encoding grpc-encoding grpc-timeout".split()
)
# One byte, percent-encoded.
_ENCODED_BYTES = 3
# Status codes.
GRPC_OK = 0
GRPC_CANCELLED = 1
GRPC_UNKNOWN = 2
GRPC_INVALID_ARGUMENT = 3
GRPC_RESOURCE_EXHAUSTED = 8
GRPC_INTERNAL = 13
GRPC_UNAVAILABLE = 14


class UnreadableMessageError(ShimError):
    """A message that the relay cannot read and therefore hands on as it is, or refuses.

    `code` is the gRPC status of such a refusal.
    """

    def __init__(self, reason: str, code: int = GRPC_INVALID_ARGUMENT) -> None:
        super().__init__(reason)
        self.code = code


def whole_length(gathered: bytes | bytearray) -> int | None:
    """Length of the first message with its prefix, once the prefix is there.

    Raises UnreadableMessageError for a flag that gRPC does not define or a message over
    the limit.
    """
    if len(gathered) < PREFIX_BYTES:
        return None
    if gathered[0] > 1:
        raise UnreadableMessageError(f"unknown message flag {gathered[0]}")
    length = int.from_bytes(gathered[1:PREFIX_BYTES], "big")
    if length > MESSAGE_BYTES:
        raise UnreadableMessageError(
            f"message of {length} bytes, over {MESSAGE_BYTES}", GRPC_RESOURCE_EXHAUSTED
        )
    return PREFIX_BYTES + length


def is_message(payload: memoryview) -> bool:
    """Whether a payload is one whole message that is neither compressed nor over the limit."""
    size = len(payload) - PREFIX_BYTES
    if not 0 <= size <= MESSAGE_BYTES or payload[0]:
        return False
    return int.from_bytes(payload[1:PREFIX_BYTES], "big") == size


class Inflation:
    """A compressed message that is inflated a piece at a time.

    Raises UnreadableMessageError, at the first or a later piece: for an encoding other than gzip,
    for bytes that do not inflate and for more than the limit.
    """

    __slots__ = ("_at", "_body", "_inflater", "_parts", "_tail", "size")

    def __init__(self, gathered: bytes | bytearray, encoding: bytes) -> None:
        if encoding != b"gzip":
            raise UnreadableMessageError(f"encoding {encoding.decode(errors='replace')[:32]!r}")
        self.size = 0  # of what there is of the message
        self._inflater = zlib.decompressobj(wbits=31)
        self._body = bytes(memoryview(gathered)[PREFIX_BYTES:])
        self._at = 0
        self._tail = b""  # what the inflater was given and did not take
        self._parts: list[bytes] = []

    def step(self) -> bool:
        """Inflate one more piece; whether it was the last one."""
        inflater, given = self._inflater, self._tail
        if not given:
            given = self._body[self._at : self._at + INFLATED_BYTES]
            self._at += len(given)
        try:
            part = inflater.decompress(given, INFLATED_BYTES)
        except zlib.error as error:
            raise UnreadableMessageError("gzip data that does not inflate") from error
        self._tail = inflater.unconsumed_tail
        self._parts.append(part)
        self.size += len(part)
        if self.size > MESSAGE_BYTES:
            why = f"gzip data of more than {MESSAGE_BYTES} bytes"
            raise UnreadableMessageError(why, GRPC_RESOURCE_EXHAUSTED)
        left = inflater.unused_data or self._at < len(self._body)
        if left if inflater.eof else not given and not part:
            raise UnreadableMessageError("not one gzip stream")
        return inflater.eof

    def message(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


def write_message(message: bytes) -> bytes:
    """`message` with an uncompressed prefix, legal under any grpc-encoding."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def callers_metadata(fields: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """Request fields without pseudo-headers and without those of the transport."""
    own = [
        field
        for field in fields
        if field[0] not in _TRANSPORTS_OWN and not field[0].startswith((b":", b"grpc-"))
    ]
    return tuple(own)


def status_text(encoded: bytes) -> str:
    """The text of a grpc-message field, of which no more is kept than a refusal may say."""
    text = unquote_to_bytes(encoded[: _ENCODED_BYTES * REFUSAL_TEXT_BYTES])[:REFUSAL_TEXT_BYTES]
    return text.decode(errors="replace")


def timeout_seconds(value: bytes) -> float | None:
    """Seconds of a grpc-timeout header: 1 to 8 digits and a unit. None when malformed."""
    digits, unit = value[:-1], value[-1:].decode("latin-1")
    if unit not in _UNITS_S or not 1 <= len(digits) <= 8 or not digits.isdigit():
        return None
    return int(digits) * _UNITS_S[unit]
