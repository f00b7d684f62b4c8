"""HPACK: RFC 7541's own examples, and the corners that the relay depends on."""

from __future__ import annotations

import pytest

from shimcore.relay.frames import size_update
from shimcore.relay.headers import HeaderDecodeError, HeaderDecoder
from shimcore.relay.limits import REMEMBERED_BLOCK_BYTES, REMEMBERED_BLOCKS

Headers = list[tuple[bytes, bytes]]

_DATE_21 = b"Mon, 21 Oct 2013 20:13:21 GMT"
_DATE_22 = b"Mon, 21 Oct 2013 20:13:22 GMT"
_URL = b"https://www.example.com"
_COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
_GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
_REQUESTS: list[Headers] = [
    [*_GET, (b":authority", b"www.example.com")],
    [*_GET, (b":authority", b"www.example.com"), (b"cache-control", b"no-cache")],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
_REQUEST_SIZES = [57, 110, 164]


def _response(status: bytes, date: bytes = _DATE_21) -> Headers:
    return [
        (b":status", status),
        (b"cache-control", b"private"),
        (b"date", date),
        (b"location", _URL),
    ]


_RESPONSES: list[Headers] = [
    _response(b"302"),
    _response(b"307"),
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", _DATE_22),
        (b"location", _URL),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", _COOKIE),
    ],
]
_RESPONSE_SIZES = [222, 222, 215]

C3 = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
C4 = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]
C5 = [
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a3231"
    "20474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
    "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a697077"
    "38666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d616765"
    "3d333630303b2076657273696f6e3d31",
]
C6 = [
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17"
    "1863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6"
    "c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
]


@pytest.mark.parametrize(
    ("coded", "value"), [("0a", 10), ("1f9a0a", 1337), ("2a", 42)], ids=["C.1.1", "C.1.2", "C.1.3"]
)
def test_rfc_7541_c_1_integers(coded: str, value: int) -> None:
    """C.1: read where an integer of a five-bit prefix stands, as a table size."""
    block = bytearray.fromhex(coded)
    block[0] = (block[0] & 0x1F) | 0x20
    if value == 42:  # C.1.3 has an eight-bit prefix: its value in five bits
        block = bytearray(size_update(42))
    decoder = HeaderDecoder()
    decoder.decode(bytes(block))
    assert decoder.max_bytes == value


@pytest.mark.parametrize(
    ("block", "field", "entries"),
    [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            (b"custom-key", b"custom-header"),
            1,
        ),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0),
        ("82", (b":method", b"GET"), 0),
    ],
    ids=["C.2.1", "C.2.2", "C.2.3", "C.2.4"],
)
def test_rfc_7541_c_2_fields(block: str, field: tuple[bytes, bytes], entries: int) -> None:
    """C.2: each representation once, and whether it enters the table."""
    decoder = HeaderDecoder()
    assert decoder.decode(bytes.fromhex(block)) == [field]
    assert len(decoder._entries) == entries
    assert decoder.changes == entries


@pytest.mark.parametrize(
    ("blocks", "expected", "sizes", "table"),
    [
        (C3, _REQUESTS, _REQUEST_SIZES, 4096),
        (C4, _REQUESTS, _REQUEST_SIZES, 4096),
        (C5, _RESPONSES, _RESPONSE_SIZES, 256),
        (C6, _RESPONSES, _RESPONSE_SIZES, 256),
    ],
    ids=["C.3", "C.4", "C.5", "C.6"],
)
def test_rfc_7541_c_3_to_6_sequences(
    blocks: list[str], expected: list[Headers], sizes: list[int], table: int
) -> None:
    """C.3 to C.6: three blocks on one connection, plain and Huffman-coded, with evictions."""
    decoder = HeaderDecoder()
    decoder.resize(table)
    for block, fields, size in zip(blocks, expected, sizes, strict=True):
        assert decoder.decode(bytes.fromhex(block)) == fields
        assert decoder._size == size


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # an entry that is not there
        "ff80808080",  # an integer that is cut
        "ff8080808080808001",  # an integer that is too long
        "40",  # a name that is cut
        "400361",
        "4001610562",
        "8220",  # a size update after a field
        "3fe21f",  # a table of 4,097 bytes, one more than allowed
        "4081ff00",  # Huffman code that ends wrongly
        "7f8001",  # a name index that is not there
    ],
)
def test_what_cannot_be_decoded_is_an_error(block: str) -> None:
    """Every way to break a block ends in the one exception."""
    with pytest.raises(HeaderDecodeError):
        HeaderDecoder().decode(bytes.fromhex(block))


def test_size_updates_evict_and_stay_within_what_was_announced() -> None:
    """§4.3: the oldest entries go first; a larger table has to be allowed before."""
    decoder = HeaderDecoder()
    decoder.decode(bytes.fromhex(C3[0]))
    decoder.decode(bytes.fromhex(C3[1]))
    decoder.decode(size_update(60))
    assert list(decoder._entries) == [(b"cache-control", b"no-cache")]
    decoder.decode(size_update(0) + size_update(4096))
    assert not decoder._entries
    with pytest.raises(HeaderDecodeError, match="4096 allowed"):
        decoder.decode(size_update(10_000))
    decoder.allow_table(10_000)
    decoder.decode(size_update(10_000))
    assert decoder.max_bytes == 10_000


def test_an_entry_larger_than_the_table_empties_it() -> None:
    """§4.4: that is no error."""
    decoder = HeaderDecoder()
    decoder.decode(bytes.fromhex(C3[0]))
    value = b"v" * 5000
    length = bytes([0x7F, (5000 - 127) & 0x7F | 0x80, (5000 - 127) >> 7])
    assert decoder.decode(b"\x40\x01a" + length + value) == [(b"a", value)]
    assert not decoder._entries
    assert decoder._size == 0


def test_changes_tell_whether_a_block_touched_the_table() -> None:
    """Indexed and literal fields do not; indexing and size updates do, even without effect."""
    decoder = HeaderDecoder()
    for block, changed in [
        ("82", 0),
        ("0001610162", 0),
        ("4001610162", 1),
        ("be", 0),
        ("3fe11f", 1),
    ]:
        before = decoder.changes
        decoder.decode(bytes.fromhex(block))
        assert decoder.changes - before == changed, block


def test_a_remembered_block_is_forgotten_when_the_table_changes() -> None:
    """The same bytes mean another field once the table has moved."""
    decoder = HeaderDecoder()
    decoder.decode(bytes.fromhex("4001610162"))
    assert decoder.decode(b"\xbe") == [(b"a", b"b")]
    assert decoder.decode(b"\xbe") == [(b"a", b"b")]
    decoder.decode(bytes.fromhex("4001630164"))
    assert decoder.decode(b"\xbe") == [(b"c", b"d")]


def test_what_is_remembered_is_bounded() -> None:
    """Neither many blocks nor large ones stay in memory."""
    decoder = HeaderDecoder()
    for number in range(10 * REMEMBERED_BLOCKS):
        decoder.decode(b"\x00\x01a\x04%04d" % number)
    assert len(decoder._remembered) <= REMEMBERED_BLOCKS
    large = b"\x00\x01a\x7f\x49" + b"v" * 200
    large *= REMEMBERED_BLOCK_BYTES // len(large) + 1
    decoder.decode(large)
    assert large not in decoder._remembered


def test_a_header_list_that_inflates_without_end_is_an_error() -> None:
    """One byte a field can name a large entry; what that spells out is bounded."""
    decoder = HeaderDecoder(limit_bytes=100_000)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    with pytest.raises(HeaderDecodeError, match="header list"):
        decoder.decode(b"\xbe" * 1000)
