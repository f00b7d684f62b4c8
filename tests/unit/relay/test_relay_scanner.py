"""The scanner: cuts bytes into frames, passes what nobody wants, and keeps their order."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.scanner import Handler, Scanner, Verdict

PING = frames.frame(frames.PING, 0, 0, b"12345678")
UNKNOWN = frames.frame(0xBE, 7, 9, b"x" * 300)


def handlers(**named: Handler) -> list[Handler | None]:
    """A table with handlers for some frame types, by name."""
    table: list[Handler | None] = [None] * 10
    for name, handler in named.items():
        table[getattr(frames, name)] = handler
    return table


def scan(table: Sequence[Handler | None], chunks: Sequence[bytes]) -> bytes:
    """All that comes out for these chunks."""
    scanner = Scanner(table)
    for chunk in chunks:
        scanner.feed(chunk)
    return b"".join(scanner.out)


def test_a_chunk_in_which_nothing_is_taken_leaves_as_the_same_object() -> None:
    """The fast path copies nothing, also inside of frames that are cut."""
    scanner = Scanner(handlers())
    chunks = [UNKNOWN + PING, PING + UNKNOWN[:100], UNKNOWN[100:200], UNKNOWN[200:] + PING]
    for chunk in chunks:
        scanner.feed(chunk)
    assert len(scanner.out) == 4
    assert all(out is chunk for out, chunk in zip(scanner.out, chunks, strict=True))


def test_handlers_see_where_a_frame_stands() -> None:
    """Chunk, start of the payload, end, flags, and the stream without its reserved bit."""
    seen: list[tuple[bytes, int, int]] = []

    def handler(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        seen.append((data[start:end], flags, stream))
        return Verdict.PASS

    reserved = frames.frame(frames.DATA, 1, 0x80000005, b"abc")
    out = scan(handlers(DATA=handler), [PING + reserved + PING])
    assert seen == [(b"abc", 1, 5)]
    assert out == PING + reserved + PING


def test_a_taken_frame_leaves_the_ones_around_it() -> None:
    """What stands before and after goes on."""
    data = frames.frame(frames.DATA, 0, 1, b"secret")
    out = scan(handlers(DATA=lambda *_: Verdict.TAKE), [PING + data + UNKNOWN + data + PING])
    assert out == PING + UNKNOWN + PING


def _take_odd(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
    if end > len(data):
        return Verdict.WHOLE
    return Verdict.TAKE if stream % 2 else Verdict.PASS


@pytest.mark.parametrize("seed", range(30))
def test_any_rechunking_gives_the_same_bytes(seed: int) -> None:
    """Where the network cuts does not matter."""
    rng = random.Random(seed)
    sent, expected = b"", b""
    for _ in range(rng.randint(1, 30)):
        kind = rng.choice([frames.DATA, frames.PING, frames.HEADERS, 0xFA])
        stream = rng.randint(0, 6)
        frame = frames.frame(
            kind, rng.randint(0, 255), stream, rng.randbytes(rng.choice([0, 1, 20, 300]))
        )
        sent += frame
        if kind != frames.DATA or not stream % 2:
            expected += frame
    chunks = []
    position = 0
    while position < len(sent):
        size = rng.choice([1, 2, 9, 50, 1000])
        chunks.append(sent[position : position + size])
        position += size
    assert scan(handlers(DATA=_take_odd), chunks) == expected


def test_own_frames_never_stand_inside_a_frame() -> None:
    """What is injected while a frame is on its way goes out behind it."""
    scanner = Scanner(handlers())
    scanner.feed(UNKNOWN[:50])
    scanner.inject(PING)
    assert not scanner.between_frames
    scanner.feed(UNKNOWN[50:100])
    scanner.feed(UNKNOWN[100:] + UNKNOWN)
    scanner.inject(PING)
    assert b"".join(scanner.out) == UNKNOWN + PING + UNKNOWN + PING


def test_own_frames_never_stand_inside_a_frame_header() -> None:
    """Also not between the bytes of a frame header: those are kept until it is whole."""
    scanner = Scanner(handlers())
    scanner.feed(UNKNOWN + PING[:4])
    scanner.inject(UNKNOWN)
    scanner.feed(PING[4:])
    assert b"".join(scanner.out) == UNKNOWN + UNKNOWN + PING


def test_own_frames_never_stand_inside_a_header_block() -> None:
    """Between HEADERS and its last CONTINUATION nothing may come (RFC 9113 §4.3)."""

    def block(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        scanner.in_block = not flags & frames.END_HEADERS
        return Verdict.PASS

    scanner = Scanner(handlers(HEADERS=block, CONTINUATION=block))
    first = frames.frame(frames.HEADERS, 0, 1, b"a")
    last = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"b")
    scanner.feed(first)
    scanner.inject(PING)
    scanner.feed(last[:3])
    scanner.feed(last[3:] + UNKNOWN)
    assert b"".join(scanner.out) == first + last + PING + UNKNOWN


def test_own_frames_wait_for_the_unlock() -> None:
    """A direction that starts locked says nothing of its own before."""
    scanner = Scanner(handlers(), locked=True)
    scanner.inject(PING)
    scanner.feed(UNKNOWN)
    scanner.unlock()
    scanner.feed(UNKNOWN)
    assert b"".join(scanner.out) == UNKNOWN + UNKNOWN + PING


def test_own_frames_of_a_handler_stand_behind_its_frame() -> None:
    """What a handler injects goes out after the frame that it looked at."""
    scanner = Scanner([])

    def handler(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        scanner.inject(PING)
        return Verdict.PASS if stream else Verdict.TAKE

    scanner._handlers = handlers(DATA=handler)
    kept = frames.frame(frames.DATA, 0, 1, b"x")
    scanner.feed(UNKNOWN + kept + frames.frame(frames.DATA, 0, 0, b"y") + UNKNOWN)
    assert b"".join(scanner.out) == UNKNOWN + kept + PING + PING + UNKNOWN


def test_a_frame_error_lets_go_what_came_before() -> None:
    """The frames before the one that is not relayed have gone out, and GOAWAY may follow."""

    def handler(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        raise FrameError(frames.ENHANCE_YOUR_CALM, "no")

    scanner = Scanner(handlers(DATA=handler))
    with pytest.raises(FrameError):
        scanner.feed(PING + UNKNOWN + frames.frame(frames.DATA, 0, 1))
    assert b"".join(scanner.out) == PING + UNKNOWN
    assert scanner.between_frames


def test_without_sight_bytes_go_on_as_they_are() -> None:
    """What was kept of a frame header goes first."""
    scanner = Scanner(handlers(DATA=lambda *_: Verdict.TAKE))
    scanner.feed(frames.frame(frames.DATA, 0, 1, b"x")[:5])
    scanner.drop_sight()
    scanner.feed(b"anything")
    assert b"".join(scanner.out) == frames.frame(frames.DATA, 0, 1, b"x")[:5] + b"anything"
