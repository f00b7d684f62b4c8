"""HPACK decoding for a reader that only looks on (RFC 7541).

The blocks themselves go on verbatim; decoding keeps this side's dynamic table in step
and gives the few fields that the relay looks at. The `hpack` package supplies the static
table and the Huffman code; on any input the result is that of its `Decoder`.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
    decode_huffman,
)
from hpack.table import HeaderTable

from shimcore.errors import ShimError
from shimcore.relay.limits import (
    BLOCK_AT_ONCE_BYTES,
    BLOCK_PIECE_BYTES,
    HEADER_FIELDS,
    HEADER_LIST_BYTES,
    REMEMBERED_BLOCK_BYTES,
    REMEMBERED_BLOCKS,
    REMEMBERED_STRING_BYTES,
    REMEMBERED_STRINGS,
)

Field = tuple[bytes, bytes]

DEFAULT_TABLE_BYTES = 4096
# RFC 7541 §4.1: what an entry costs beyond its name and value.
ENTRY_OVERHEAD_BYTES = 32
# Continuation bytes of an integer; five carry 35 bits, more than any length needs.
_INTEGER_BYTES = 5

_STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
_STATIC_LENGTH = len(_STATIC)


class HeaderDecodeError(ShimError):
    """A header block that cannot be decoded; the table is lost from here on."""


class ExcessiveHeadersError(HeaderDecodeError):
    """A header list that is longer than any client's."""


class _UnfinishedError(ShimError):
    """A field cannot be read before a long string of its is decoded."""


_known_strings = lru_cache(maxsize=REMEMBERED_STRINGS)(decode_huffman)


def decode_string(coded: bytes) -> bytes:
    """A short string of Huffman code (§5.2). Raises HPACKDecodingError."""
    return (_known_strings if len(coded) <= REMEMBERED_STRING_BYTES else decode_huffman)(coded)


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


class _Begun:
    """A block of which a part is decoded."""

    __slots__ = ("at", "block", "changes", "fields", "inflated", "long", "strings")

    def __init__(self, block: bytes, changes: int) -> None:
        self.block = block
        self.at = 0  # where the next field begins
        self.fields: list[Field] = []
        self.inflated = 0
        self.changes = changes  # of the table, before
        # Of the next field: its long strings by their positions, and the one that is decoded.
        self.strings: dict[int, bytes] = {}
        self.long: tuple[int, LongString] | None = None


_NOTHING = _Begun(b"", 0)


class HeaderDecoder:
    """The decoding half of one direction of a connection.

    `allowed_bytes` is the largest table that the block's reader has announced
    (SETTINGS_HEADER_TABLE_SIZE); `changes` counts what has altered the table, so that a
    caller can tell whether a block did. `known` gives the fields of a block that needs no
    decoding: it came before as it is, and means the same. None of any other.
    """

    __slots__ = (
        "_begun",
        "_entries",
        "_limit_bytes",
        "_remembered",
        "_size",
        "allowed_bytes",
        "changes",
        "known",
        "max_bytes",
    )

    def __init__(self, limit_bytes: int = HEADER_LIST_BYTES) -> None:
        self._entries: deque[Field] = deque()
        self._size = 0
        self._limit_bytes = limit_bytes
        self._remembered: dict[bytes, list[Field]] = {}
        self.known = self._remembered.get
        self._begun = _NOTHING
        self.max_bytes = DEFAULT_TABLE_BYTES
        self.allowed_bytes = DEFAULT_TABLE_BYTES
        self.changes = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block, in order. The list is shared: do not change it.

        Raises HeaderDecodeError.
        """
        fields = self.begin(block)
        while fields is None:
            fields = self.go_on()
        return fields

    def begin(self, block: bytes) -> list[Field] | None:
        """The same, if that costs little; else None, and `go_on` is to be called for it."""
        known = self.known(block)
        if known is not None:
            return known
        self._begun = _Begun(block, self.changes)
        return self.go_on() if len(block) <= BLOCK_AT_ONCE_BYTES else None

    def go_on(self) -> list[Field] | None:
        """Decode a piece more of the block that was begun; its fields when it was the last."""
        begun = self._begun
        try:
            if begun.long is None or self._long_string(begun):
                self._decode(begun)
        except (IndexError, HPACKDecodingError) as error:
            raise HeaderDecodeError(str(error) or "truncated header block") from error
        block, fields = begun.block, begun.fields
        if begun.at < len(block):
            return None
        if self.max_bytes > self.allowed_bytes:
            raise HeaderDecodeError("the encoder did not shrink its table")
        self._begun = _NOTHING
        if self.changes == begun.changes and len(block) <= REMEMBERED_BLOCK_BYTES:
            if len(self._remembered) >= REMEMBERED_BLOCKS:
                self._remembered.clear()
            self._remembered[block] = fields
        return fields

    def allow_table(self, size: int) -> None:
        """Accept tables up to `size`; what was allowed before stays so."""
        self.allowed_bytes = max(self.allowed_bytes, size)

    def resize(self, max_bytes: int) -> None:
        """Set the table's size as a size update in a block does (§6.3)."""
        self.max_bytes = max_bytes
        self._changed()
        self._evict()

    def _changed(self) -> None:
        self.changes += 1
        if self._remembered:
            self._remembered.clear()

    def _decode(self, begun: _Begun) -> None:
        """Read the fields of the next piece, up to one that a long string keeps from it."""
        block, fields, position = begun.block, begun.fields, begun.at
        inflated = begun.inflated
        end = min(position + BLOCK_PIECE_BYTES, len(block))
        while position < end:
            first = block[position]
            if first & 0x80:  # §6.1 indexed field
                index = first & 0x7F
                position += 1
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                field = self._entry(index)
            elif first & 0x60 == 0x20:  # §6.3 size update, only before any field
                if fields:
                    raise HeaderDecodeError("table size update after a field")
                position = self._size_update(block, position)
                continue
            else:
                begun.at = position
                try:
                    field, position = self._literal(block, position)
                except _UnfinishedError:
                    begun.inflated = inflated
                    return
            fields.append(field)
            inflated += ENTRY_OVERHEAD_BYTES + len(field[0]) + len(field[1])
            if inflated > self._limit_bytes:
                raise ExcessiveHeadersError(f"header list over {self._limit_bytes} bytes")
        if len(fields) > HEADER_FIELDS:
            raise ExcessiveHeadersError(f"header list of over {HEADER_FIELDS} fields")
        begun.at, begun.inflated = position, inflated

    def _long_string(self, begun: _Begun) -> bool:
        """Decode a piece of a long string; whether it was the last."""
        assert begun.long is not None  # noqa: S101 - the caller has looked
        position, string = begun.long
        value = string.step(BLOCK_PIECE_BYTES)
        if value is None:
            return False
        begun.strings[position] = value
        begun.long = None
        return True

    def _entry(self, index: int) -> Field:
        """§2.3.3: one-based, the static table first, then the newest dynamic entry."""
        if index <= _STATIC_LENGTH:
            if index == 0:
                raise HeaderDecodeError("table index 0")
            return _STATIC[index - 1]
        return self._entries[index - _STATIC_LENGTH - 1]

    def _size_update(self, block: bytes, position: int) -> int:
        size = block[position] & 0x1F
        position += 1
        if size == 0x1F:
            size, position = _integer(block, position, 0x1F)
        if size > self.allowed_bytes:
            raise HeaderDecodeError(f"table size {size} is over the {self.allowed_bytes} allowed")
        self.resize(size)
        return position

    def _literal(self, block: bytes, position: int) -> tuple[Field, int]:
        """§6.2: with incremental indexing (01), without (0000) or never indexed (0001)."""
        first = block[position]
        indexed = first & 0x40
        mask = 0x3F if indexed else 0x0F
        index = first & mask
        position += 1
        if index == mask:
            index, position = _integer(block, position, mask)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = self._string(block, position)
        value, position = self._string(block, position)
        field = (name, value)
        if self._begun.strings:
            self._begun.strings = {}
        if indexed:
            self._add(field)
        return field, position

    def _string(self, block: bytes, position: int) -> tuple[bytes, int]:
        """§5.2: a length-prefixed string, Huffman-coded when its first bit is set."""
        first = block[position]
        position += 1
        length = first & 0x7F
        if length == 0x7F:
            length, position = _integer(block, position, 0x7F)
        end = position + length
        if end > len(block):
            raise HeaderDecodeError("truncated header block")
        if not first & 0x80:
            return block[position:end], end
        if length <= BLOCK_PIECE_BYTES:
            return decode_string(block[position:end]), end
        begun = self._begun
        if position not in begun.strings:
            begun.long = position, LongString(block[position:end])
            raise _UnfinishedError
        return begun.strings[position], end

    def _add(self, field: Field) -> None:
        """§4.4: an entry larger than the table empties it and is not an error."""
        self._changed()
        size = ENTRY_OVERHEAD_BYTES + len(field[0]) + len(field[1])
        if size > self.max_bytes:
            self._entries.clear()
            self._size = 0
            return
        self._entries.appendleft(field)
        self._size += size
        if self._size > self.max_bytes:
            self._evict()

    def _evict(self) -> None:
        while self._size > self.max_bytes:
            name, value = self._entries.pop()
            self._size -= ENTRY_OVERHEAD_BYTES + len(name) + len(value)


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """§5.1: the rest of an integer whose prefix was all ones; `value` is that prefix."""
    shift = 0
    end = position + _INTEGER_BYTES
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if position >= end:
            raise HeaderDecodeError("integer too long")
