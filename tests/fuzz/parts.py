"""Everything but the connection core that reads what others wrote."""

from __future__ import annotations

import gzip

from hpack import Decoder
from hpack.exceptions import HPACKError

from shimcore.config import parse_config
from shimcore.errors import ConfigError, FrameError, ReferenceSyntaxError
from shimcore.images.call import Method
from shimcore.images.messages import ImageRequest, UnreadableRequestError
from shimcore.reference import ImageID, parse, parse_reference
from shimcore.registry.challenge import ChallengeSyntaxError, parse_challenges
from shimcore.relay import frames
from shimcore.relay.headers import HeaderDecodeError, HeaderDecoder
from shimcore.relay.limits import HEADER_LIST_BYTES, MESSAGE_BYTES
from shimcore.relay.messages import (
    UnreadableMessageError,
    timeout_seconds,
    whole_length,
    write_message,
)
from shimcore.relay.unavailable import UnavailableServer
from tests.fuzz.reader import Reader
from tests.support.raw import read_message


def headers(data: bytes) -> None:
    """Any sequence of blocks is for the decoder what it is for the `hpack` package's."""
    reader = Reader(data)
    ours, theirs = HeaderDecoder(), Decoder(max_header_list_size=HEADER_LIST_BYTES)
    while reader:
        choice = reader.byte()
        if choice & 1:
            size = choice * 128
            ours.allow_table(size)
            theirs.max_allowed_table_size = ours.allowed_bytes
        block = reader.take(choice if choice < 0xFE else reader.short())
        for _ in range(1 + (choice & 2) // 2):  # the second time it may be remembered
            try:
                expected = [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)]
            except HPACKError:
                expected = None
            try:
                fields = ours.decode(block)
            except HeaderDecodeError:
                assert expected is None, "hpack decodes this"
                return  # the table is lost
            assert fields == expected
            assert ours.max_bytes == theirs.header_table_size


def messages(data: bytes) -> None:
    """The message reader raises nothing but its own error, and reads back what it wrote."""
    reader = Reader(data)
    flags = reader.byte()
    timeout_seconds(reader.take(flags >> 4))
    gathered = reader.rest()
    if flags & 1:
        gathered = b"\x01" + len(gathered).to_bytes(4, "big") + gathered
    elif flags & 2:
        packed = gzip.compress(gathered, mtime=0)
        assert read_message(b"\x01\0\0\0\0" + packed, b"gzip") == gathered
    assert read_message(write_message(gathered), b"identity") == gathered
    try:
        need = whole_length(gathered)
        if need is not None:
            assert frames.FRAME_HEADER_BYTES - 4 <= need <= MESSAGE_BYTES + 5
            content = read_message(gathered[:need], b"gzip" if flags & 4 else b"identity")
            assert len(content) <= MESSAGE_BYTES
    except UnreadableMessageError:
        pass


def unavailable(data: bytes) -> None:
    """The stand-in for an absent runtime ends a connection with nothing but FrameError."""
    reader = Reader(data)
    mode = reader.byte()
    server = UnavailableServer(lambda: "away" if mode & 2 else None)
    took = sent = 0
    try:
        if mode & 1:
            server.from_client(frames.PREFACE)
        while reader:
            chunk = reader.string()
            took += len(chunk)
            server.from_client(chunk)
            sent += sum(map(len, server.take_to_client()))
    except FrameError:
        return
    assert sent <= 1000 + 40 * took, "answers are longer than questions by far"


def requests(data: bytes) -> None:
    """Any bytes are an image request or UnreadableRequestError; a new name is the new name."""
    reader = Reader(data)
    method = list(Method)[reader.byte() % len(Method)]
    try:
        request = ImageRequest(method, reader.rest())
    except UnreadableRequestError:
        return
    before = request.images
    others = [f"a.example/b:{number}" for number in range(len(before))]
    renamed = ImageRequest(method, request.renamed(others))
    assert renamed.images == others
    assert request.images == before
    if all(before):
        assert ImageRequest(method, renamed.renamed(before)).images == before


def config(data: bytes) -> None:
    """No text does anything but make a configuration or a ConfigError that can be printed."""
    refused = None
    try:
        parse_config(data.decode("utf-8", "surrogateescape"), "/nonexistent/config.yaml")
    except ConfigError as error:
        refused = error
    if refused is not None:
        assert refused.faults
        str(refused).encode("utf-8", "backslashreplace")


def reference(data: bytes) -> None:
    """A text is an image's name or ReferenceSyntaxError; what is printed reads back the same."""
    text = data.decode("utf-8", "surrogateescape")
    position = 0
    found = None
    try:
        found = parse(text)
    except ReferenceSyntaxError as error:
        position = error.position
    assert 0 <= position <= len(text)
    if found is not None and not isinstance(found, ImageID):
        assert parse(str(found)) == found
        assert parse_reference(found.familiar) == found


def challenge(data: bytes) -> None:
    """WWW-Authenticate is challenges that print and read back the same, or its own error."""
    text = data.decode("latin-1")
    try:
        found = parse_challenges(text.split("\0"))
    except ChallengeSyntaxError:
        return
    for one in found:
        assert parse_challenges([str(one)]) == (one,)
