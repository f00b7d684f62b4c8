"""The relay's HPACK decoder agrees with hpack's on any input.

Fields, errors, and the dynamic table afterwards, block after block. What a table holds
after an error is outside of this: the relay stops decoding there for good.
"""

from __future__ import annotations

import random

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shimcore.relay.headers import HeaderDecodeError, HeaderDecoder

LIMIT = 1 << 16
ALLOWED = 8192

names = st.sampled_from([b":path", b":status", b"grpc-status", b"x-a", b"x-long-name", b"te"])
values = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"200", b"/", b"trailers", b"v" * 300, b"v" * 5000])
)
fields = st.lists(st.tuples(names, values), max_size=8)


class Both:
    """The two decoders side by side."""

    def __init__(self) -> None:
        self.theirs = hpack.Decoder(max_header_list_size=LIMIT)
        self.theirs.max_allowed_table_size = ALLOWED
        self.ours = HeaderDecoder(limit_bytes=LIMIT)
        self.ours.allow_table(ALLOWED)

    def agree(self, block: bytes) -> bool:
        """Decode with both and compare; False after an error."""
        try:
            expected = [(bytes(n), bytes(v)) for n, v in self.theirs.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(HeaderDecodeError):
                self.ours.decode(block)
            return False
        before = list(self.ours._entries), self.ours.max_bytes
        changes = self.ours.changes
        assert self.ours.decode(block) == expected
        table = self.theirs.header_table
        assert list(self.ours._entries) == list(table.dynamic_entries)
        assert self.ours.max_bytes == self.theirs.header_table_size
        assert self.ours._size == table._current_size
        if self.ours.changes == changes:
            assert self.ours.decode(block) == expected, "remembered wrongly"
            assert (list(self.ours._entries), self.ours.max_bytes) == before
        return True


@given(st.binary(max_size=200))
@example(b"\x0f\x2f\x00")  # a name index with a continued integer
@example(b"\x7f\x00\x00")
@example(b"\x3f\xe1\x1f")  # the size that is allowed without more
@example(b"\x3f\x81\x3f\x3f\xe1\x1f")  # twice a size
@example(b"\x80")
@example(b"\xff\x80\x80\x80\x80\x00\x82")  # an integer of five continued bytes
@example(b"\xff\x80\x80\x80\x80\x80\x00")  # and of six
@example(b"\x00\x80\x80")  # Huffman-coded strings of no length
@example(b"\x00\x81\xff\x00")  # padding of a whole byte
def test_any_bytes(block: bytes) -> None:
    """An error in one is an error in the other, and else the same fields and table."""
    Both().agree(block)


@given(st.lists(st.tuples(fields, st.booleans(), st.sampled_from([None, 0, 50, 300, 4096, 8192]))))
def test_blocks_of_an_encoder(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    """Sequences with and without Huffman code, and with changes of the table's size."""
    both = Both()
    encoder = hpack.Encoder()
    for block, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        assert both.agree(encoder.encode(block, huffman=huffman))


@pytest.mark.parametrize("seed", range(40))
def test_mutated_blocks(seed: int) -> None:
    """Blocks of an encoder with bytes changed, dropped and added, until the first error."""
    rng = random.Random(seed)
    for _ in range(25):
        both, encoder = Both(), hpack.Encoder()
        for _ in range(8):
            content = [
                (
                    rng.choice([b":path", b"x-%d" % rng.randint(0, 9)]),
                    rng.randbytes(rng.randint(0, 9)),
                )
                for _ in range(rng.randint(0, 6))
            ]
            block = bytearray(encoder.encode(content, huffman=rng.random() < 0.5))
            for _ in range(rng.choice([0, 0, 1, 3])):
                at = rng.randint(0, len(block))
                block[at : at + rng.randint(0, 1)] = rng.randbytes(rng.randint(0, 2))
            if not both.agree(bytes(block)):
                break


_PIECES = (
    [bytes([0x80 | index]) for index in range(1, 80)]
    + [bytes([0x40 | index]) + b"\x02ab" for index in range(1, 63)]
    + [bytes([index]) + b"\x01c" for index in range(1, 31)]
    + [b"\x00\x01n\x01v", b"\x40\x01n\x01v", b"\x10\x01n\x82\xff\xff", b"\x20", b"\x3f\x09"]
)


@given(st.lists(st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join), max_size=6))
def test_blocks_of_likely_pieces(blocks: list[bytes]) -> None:
    """Every representation with every index, in any order."""
    both = Both()
    for block in blocks:
        if not both.agree(block):
            break
