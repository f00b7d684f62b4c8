"""Clients that no gRPC library would be: sockets with HTTP/2 frames written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping

from shimcore.relay import frames
from shimcore.relay.messages import PREFIX_BYTES, Inflation, write_message

ECHO = "/x.Soak/Echo"
LARGEST_WINDOW = frames.MAX_WINDOW


def literal(name: str, value: str) -> bytes:
    """A field that touches no table; name and value are shorter than 127."""
    return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()


def opening(window: int = frames.DEFAULT_WINDOW) -> bytes:
    """Preface and settings; with a window, as much of it as possible for the connection."""
    settings = (4).to_bytes(2, "big") + window.to_bytes(4, "big")
    data = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, settings)
    if window > frames.DEFAULT_WINDOW:
        data += frames.window_update(0, window - frames.DEFAULT_WINDOW)
    return data


def headers(stream: int, path: str, more: Mapping[str, str] | None = None) -> bytes:
    """HEADERS of a gRPC call whose DATA follows."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **(more or {}),
    }
    block = b"".join(literal(name, value) for name, value in fields.items())
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def message(stream: int, content: bytes) -> bytes:
    """The whole request in one DATA frame with END_STREAM."""
    return frames.frame(frames.DATA, frames.END_STREAM, stream, write_message(content))


def call(stream: int, path: str, content: bytes, more: Mapping[str, str] | None = None) -> bytes:
    """A whole unary request."""
    return headers(stream, path, more) + message(stream, content)


@contextlib.asynccontextmanager
async def connected(path: str, timeout_s: float = 10) -> AsyncIterator[socket.socket]:
    """A socket that nothing reads from by itself."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    client.connect(path)
                    break
                except BlockingIOError:  # the queue of connections is full
                    await asyncio.sleep(0.01)
        yield client


async def send(client: socket.socket, data: bytes) -> None:
    """All of it."""
    await asyncio.get_running_loop().sock_sendall(client, data)


async def read_until(client: socket.socket, wanted: bytes, timeout_s: float = 10) -> bytes:
    """What came up to and with `wanted`; what came at all, when the end came first."""
    got = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        while wanted not in got:
            chunk = await loop.sock_recv(client, 65_536)
            if not chunk:
                break
            got += chunk
    return got


def read_message(gathered: bytes | bytearray, encoding: bytes) -> bytes:
    """The content of one whole prefixed message, inflated where it is compressed.

    Raises UnreadableMessageError as the relay would.
    """
    if not gathered[0]:
        return bytes(gathered[PREFIX_BYTES:])
    inflation = Inflation(gathered, encoding)
    while not inflation.step():
        pass
    return inflation.message()
