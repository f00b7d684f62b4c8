"""The Huffman code of header blocks, as a whole or a piece at a time (RFC 7541 §5.2).

Table and result are those of the `hpack` package.
"""

from __future__ import annotations

from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
    decode_huffman,
)

from shimcore.relay.limits import REMEMBERED_STRING_BYTES, REMEMBERED_STRINGS

_remembered = lru_cache(maxsize=REMEMBERED_STRINGS)(decode_huffman)


def decode(coded: bytes) -> bytes:
    """A short string. Raises HPACKDecodingError."""
    return (_remembered if len(coded) <= REMEMBERED_STRING_BYTES else decode_huffman)(coded)


class LongString:
    """A long one, decoded in pieces. Raises HPACKDecodingError."""

    __slots__ = ("_at", "_coded", "_decoded", "_flags", "_state")

    def __init__(self, coded: bytes) -> None:
        self._coded = coded
        self._at = 0
        self._state = 0
        self._flags = HUFFMAN_COMPLETE
        self._decoded = bytearray()

    def step(self, size: int) -> bytes | None:
        """Decode `size` bytes of code more; the string, when those were the last."""
        state, flags, table = self._state, self._flags, HUFFMAN_TABLE
        add = self._decoded.append
        for byte in self._coded[self._at : self._at + size]:
            for half in (byte >> 4, byte & 0x0F):
                state, flags, symbol = table[state << 4 | half]
                if flags & HUFFMAN_FAIL:
                    raise HPACKDecodingError("Invalid Huffman string")
                if flags & HUFFMAN_EMIT_SYMBOL:
                    add(symbol)
        self._state, self._flags = state, flags
        self._at += size
        if self._at < len(self._coded):
            return None
        if not flags & HUFFMAN_COMPLETE:
            raise HPACKDecodingError("Incomplete Huffman string")
        return bytes(self._decoded)
