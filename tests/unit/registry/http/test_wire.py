"""What an answer may cost, on a connection that gives all at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import httpcore
import pytest

from shimcore.registry.http.wire import (
    CHUNK_BYTES,
    HEAD_LIMIT_BYTES,
    HEAD_LIMIT_LINES,
    PIECE_BYTES,
    PIECE_LINES,
    SMALL_CHUNKS,
    BoundedStream,
    ExcessiveAnswerError,
)


class Wire(httpcore.AsyncNetworkStream):
    """Never waits: what TLS does with records that it has."""

    def __init__(self, reads: Iterator[bytes]) -> None:
        self.reads = reads
        self.sent = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return next(self.reads, b"")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent += buffer

    async def aclose(self) -> None:
        pass

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return self


def stream(*reads: bytes) -> BoundedStream:
    return BoundedStream(Wire(iter(reads)))


async def read_all(bounded: BoundedStream, pieces: list[bytes] | None = None) -> list[bytes]:
    pieces = [] if pieces is None else pieces
    while piece := await bounded.read(65536):
        pieces.append(piece)
    return pieces


async def test_an_ordinary_head_is_handed_over_whole() -> None:
    """Twenty lines and a body without line ends: one read, one piece."""
    answer = b"HTTP/1.1 200 OK\r\n" + b"Name: value\r\n" * 20 + b"\r\n" + b"x" * 8192
    assert await read_all(stream(answer)) == [answer]


async def test_pieces_have_few_lines_and_bytes_and_lose_nothing() -> None:
    """However the bytes came."""
    answer = b"\n" * 100 + b"x" * 40_000 + b"\nrest"
    pieces = await read_all(stream(answer[:50], answer[50:]))
    assert b"".join(pieces) == answer
    assert max(piece.count(b"\n") for piece in pieces) == PIECE_LINES
    assert max(map(len, pieces)) == PIECE_BYTES


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"X-A: b\r\n",
        b"\n",
        b"x",  # a byte at a time
        b"x" * 65536,
    ],
)
async def test_a_head_without_an_end_is_given_up(part: bytes) -> None:
    """Interim answers, lines, bytes and drips, each at its limit."""

    def forever() -> Iterator[bytes]:
        while True:
            yield part

    pieces: list[bytes] = []
    with pytest.raises(ExcessiveAnswerError):
        await read_all(BoundedStream(Wire(forever())), pieces)
    assert sum(map(len, pieces)) <= HEAD_LIMIT_BYTES + PIECE_BYTES
    assert len(pieces) <= HEAD_LIMIT_LINES + 1


async def test_the_loop_has_a_turn_between_reads_that_do_not_wait() -> None:
    """A connection whose bytes are all there leaves others theirs."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await read_all(stream(*[b"x"] * 100))
    counter.cancel()
    assert turns >= 100


async def test_every_chunk_is_progress() -> None:
    """A body of any number of lines is one as long as its chunks are not tiny."""
    bounded = stream(b"\n" * 32 * 1000)
    body_bytes = 0
    bounded.answered()
    for _ in range(1000):
        await bounded.read(65536)
        body_bytes += CHUNK_BYTES
        bounded.chunk(body_bytes)


async def test_small_chunks_are_borne_for_a_while() -> None:
    """Then the answer is given up."""
    bounded = stream()
    for _ in range(SMALL_CHUNKS):
        bounded.chunk(1)
    with pytest.raises(ExcessiveAnswerError, match="too small"):
        bounded.chunk(1)


async def test_a_body_that_is_mostly_framing_is_given_up() -> None:
    """Extensions of chunks, for one."""
    bounded = stream(b"x" * 200_000)
    for size in range(1, 9):
        await bounded.read(65536)
        bounded.chunk(size)
    await bounded.read(65536)
    with pytest.raises(ExcessiveAnswerError, match="framing"):
        bounded.chunk(9)


async def test_a_request_starts_a_new_account() -> None:
    """A connection serves any number of questions."""
    bounded = stream(*[b"\n" * PIECE_LINES] * 100)
    for _ in range(100):
        await bounded.write(b"GET / HTTP/1.1\r\n\r\n")
        await bounded.read(65536)


async def test_what_came_after_an_answer_answers_nothing() -> None:
    """The connection is not used again: its next answer was there before the question."""
    bounded = stream(b"\n" * (PIECE_LINES + 1))
    await bounded.read(65536)
    with pytest.raises(httpcore.ReadError):
        await bounded.write(b"GET / HTTP/1.1\r\n\r\n")
