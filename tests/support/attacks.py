"""Clients that want the shim for themselves: `python -m tests.support.attacks NAME SOCKET N`.

A process of its own, so that what others see is the shim's doing. It writes a line when all
its connections have begun, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator

from shimcore.pb import cri_pb2
from shimcore.relay import frames
from tests.support import raw

PULL = "/runtime.v1.ImageService/PullImage"
STATUS = "/runtime.v1.ImageService/ImageStatus"
ECHO = "/x/Echo"
CHAT = "/x/Chat"
VERSION = "/runtime.v1.RuntimeService/Version"
CHUNK_BYTES = 200_000

Attack = Callable[[str], Awaitable[None]]


def pull_request(image: str, more: int = 0) -> bytes:
    """PullImageRequest of an image, and a field that nobody knows with `more` bytes."""
    spec = cri_pb2.ImageSpec(image=image)
    known = cri_pb2.PullImageRequest(image=spec).SerializeToString()
    if not more:
        return known
    length = bytes((more & 0x7F | 0x80, more >> 7 & 0x7F | 0x80, more >> 14 & 0x7F | 0x80))
    return known + b"\x7a" + length + bytes((more >> 21,)) + bytes(more)


def packed(content: bytes) -> bytes:
    """A gzip'd gRPC message."""
    body = gzip.compress(content, mtime=0)
    return b"\x01" + len(body).to_bytes(4, "big") + body


async def _flood(path: str, first: bytes, chunks: Iterator[bytes]) -> None:
    """Send as fast as the shim takes it, and read what comes."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(path)
            reading = asyncio.get_running_loop().create_task(_read(reader))
            try:
                writer.write(raw.opening(raw.LARGEST_WINDOW) + first)
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
                    if reading.done():
                        break
                else:
                    await reading
            finally:
                reading.cancel()
                writer.transport.abort()
        await asyncio.sleep(0.05)


async def _again_and_again(path: str, data: bytes) -> None:
    """Connect, send, and be gone, as fast as that goes."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            await writer.drain()
            writer.transport.abort() if not data else writer.close()
        await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(CHUNK_BYTES):
            pass


def _again(data: bytes) -> Iterator[bytes]:
    return itertools.repeat(data * max(CHUNK_BYTES // len(data), 1))


def _streams(one: Callable[[int], bytes]) -> Iterator[bytes]:
    """New streams for ever; the numbers of one connection end after a thousand million."""
    numbers = itertools.count(3, 2)
    while True:
        chunk = b""
        while len(chunk) < CHUNK_BYTES:
            chunk += one(next(numbers))
        yield chunk


def _empty_data(path: str) -> Awaitable[None]:
    return _flood(path, raw.headers(1, CHAT), _again(frames.frame(frames.DATA, 0, 1)))


def _settings(path: str) -> Awaitable[None]:
    small = (4).to_bytes(2, "big") + (60_000).to_bytes(4, "big")
    large = (4).to_bytes(2, "big") + (70_000).to_bytes(4, "big")
    both = frames.frame(frames.SETTINGS, 0, 0, small) + frames.frame(frames.SETTINGS, 0, 0, large)
    return _flood(path, b"", _again(both))


def _pings(path: str) -> Awaitable[None]:
    return _flood(path, b"", _again(frames.frame(frames.PING, 0, 0, bytes(8))))


def _window_updates(path: str) -> Awaitable[None]:
    first = raw.headers(1, CHAT)
    return _flood(path, first, _again(frames.window_update(1, 1) + frames.rst_stream(1, 0)))


def _resets(path: str) -> Awaitable[None]:
    def one(stream: int) -> bytes:
        return raw.headers(stream, ECHO) + frames.rst_stream(stream, frames.CANCEL)

    return _flood(path, b"", _streams(one))


def _image_resets(path: str) -> Awaitable[None]:
    content = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image="a/b:1"))

    def one(stream: int) -> bytes:
        asked = raw.call(stream, STATUS, content.SerializeToString())
        return asked + frames.rst_stream(stream, frames.CANCEL)

    return _flood(path, b"", _streams(one))


def _continuations(path: str) -> Awaitable[None]:
    """Blocks of a thousand frames, Huffman code all of it."""
    coded = int("00011" * 8, 2).to_bytes(5, "big") * 1600
    size = len(coded) - 127
    literal = b"\x00\x01x\xff" + bytes((size & 0x7F | 0x80, size >> 7)) + coded

    def one(stream: int) -> bytes:
        data = frames.frame(frames.HEADERS, 0, stream, literal)
        data += frames.frame(frames.CONTINUATION, 0, stream, literal) * 5
        data += frames.frame(frames.CONTINUATION, 0, stream) * 100
        data += frames.frame(frames.CONTINUATION, frames.END_HEADERS, stream)
        return data + frames.rst_stream(stream, frames.CANCEL)

    return _flood(path, b"", _streams(one))


def _bombs(path: str) -> Awaitable[None]:
    """PullImages that inflate a thousandfold, given up and made again."""
    content = packed(pull_request("nowhere.invalid/x:1", 15 << 20))
    small = packed(pull_request("nowhere.invalid/x:1", (4 << 20) - 1000))

    def one(stream: int) -> bytes:
        asked = raw.headers(stream, PULL, {"grpc-encoding": "gzip"})
        message = content if stream & 2 else small
        asked += frames.frame(frames.DATA, frames.END_STREAM, stream, message)
        return asked + frames.rst_stream(stream, frames.CANCEL)

    return _flood(path, b"", _streams(one))


def _hung_bombs(path: str) -> Awaitable[None]:
    """PullImages that inflate to megabytes and never end: two kilobytes a connection."""
    sizes = ((15 << 20), (4 << 20) - 1000, (2 << 20))
    asked = b""
    for stream, size in zip((1, 3, 5), sizes, strict=True):
        content = packed(pull_request(f"hub.invalid/x:{stream}", size))
        asked += raw.headers(stream, PULL, {"grpc-encoding": "gzip"})
        asked += frames.frame(frames.DATA, frames.END_STREAM, stream, content)
    return _flood(path, asked, iter(()))


def _hung_pulls(path: str) -> Awaitable[None]:
    """Sixty-four pulls of different images that never end, on one connection."""
    calls = (raw.call(n, PULL, pull_request(f"hub.invalid/x:{n}")) for n in range(1, 129, 2))
    return _flood(path, b"".join(calls), iter(()))


def _open_calls(path: str) -> Awaitable[None]:
    """Calls that are begun and never ended."""
    return _flood(path, b"", _streams(lambda stream: raw.headers(stream, VERSION)))


def _reconnect_resets(path: str) -> Awaitable[None]:
    """A hundred calls that are given up, and a new connection for the next hundred."""
    calls = b"".join(
        raw.headers(stream, VERSION) + frames.rst_stream(stream, frames.CANCEL)
        for stream in range(1, 201, 2)
    )
    return _again_and_again(path, raw.opening() + calls)


def _connect_close(path: str) -> Awaitable[None]:
    return _again_and_again(path, b"")


def _many_fields(path: str) -> Awaitable[None]:
    """Header lists of four thousand fields, a byte each."""
    block = raw.literal(":path", ECHO) + b"\x83" * 4000

    def one(stream: int) -> bytes:
        asked = frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
        return asked + frames.rst_stream(stream, frames.CANCEL)

    return _flood(path, b"", _streams(one))


ATTACKS: dict[str, Attack] = {
    "empty-data": _empty_data,
    "settings": _settings,
    "pings": _pings,
    "window-updates": _window_updates,
    "resets": _resets,
    "image-resets": _image_resets,
    "continuations": _continuations,
    "bombs": _bombs,
    "hung-bombs": _hung_bombs,
    "hung-pulls": _hung_pulls,
    "open-calls": _open_calls,
    "reconnect-resets": _reconnect_resets,
    "connect-close": _connect_close,
    "many-fields": _many_fields,
}

# These cost whoever serves the calls at least as much as the shim: streams begun and given up
# by the ten thousand, and header blocks of many kilobytes.
HARD_ON_THE_RUNTIME = ("resets", "image-resets", "continuations")


async def _attack(name: str, path: str, connections: int) -> None:
    attacks = [asyncio.ensure_future(ATTACKS[name](path)) for _ in range(connections)]
    await asyncio.sleep(0.5)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await asyncio.gather(*attacks)


if __name__ == "__main__":
    asyncio.run(_attack(sys.argv[1], sys.argv[2], int(sys.argv[3])))
