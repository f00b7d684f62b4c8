"""What one answer may cost, measured where its bytes come in.

The HTTP library reads 64 KiB at a time and works through all that is in them before anything else
has its turn: thousands of interim answers, header lines or one-byte chunks, which take it tens of
microseconds each. Here it is handed a few lines at a time, with a turn of the event loop between,
and an answer that brings more of them than any registry's is given up.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpcore

from shimcore.errors import ShimError
from shimcore.lookup import LookupBackend

# A registry's answer has 10 to 40 lines and 1 to 4 KiB before its body; a challenge up to 8 KiB.
HEAD_LIMIT_LINES = 256
HEAD_LIMIT_BYTES = 64 * 1024
# Lines of one turn: most heads are handed over whole, and 20 of the worst take 10 ms.
PIECE_LINES = 32
PIECE_BYTES = 16 * 1024
# Go's and nginx's chunks have 2 to 32 KiB; small ones are borne for a while.
SMALL_CHUNKS = 512
CHUNK_BYTES = 256
# Framing beside the body: the head, what was read ahead, and half of what the body has.
FRAMING_LIMIT_BYTES = 128 * 1024


class ExcessiveAnswerError(ShimError):
    """An answer that costs more than any registry's; the text says of what it has too much."""


class BoundedBackend(LookupBackend):
    """Makes connections whose answers are bounded."""

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Connect as LookupBackend does."""
        return BoundedStream(await super().connect_tcp(*arguments, **options))


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection; a request that is written starts a new account."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left, self._at = b"", 0  # read and not handed over, from `_at` on
        self._reads = 0
        self._lines = self._bytes = 0  # since the last progress; what ends early is a line, too
        self._chunks = 0
        self._taken_bytes = 0

    def answered(self) -> None:
        """Note that the answer's head has come to its end."""
        self._lines = self._bytes = 0

    def chunk(self, body_bytes: int) -> None:
        """Note a part of the body, which has now so many bytes. Raises ExcessiveAnswerError."""
        self._lines = self._bytes = 0
        self._chunks += 1
        if self._chunks > SMALL_CHUNKS and body_bytes < self._chunks * CHUNK_BYTES:
            raise ExcessiveAnswerError("a body in parts that are too small")
        if self._taken_bytes > FRAMING_LIMIT_BYTES + body_bytes * 3 // 2:
            raise ExcessiveAnswerError("a body that is mostly framing")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next few lines. Raises ExcessiveAnswerError."""
        if self._reads:  # TLS may have more at hand, and does not wait then
            await asyncio.sleep(0)
        self._reads += 1
        if self._lines > HEAD_LIMIT_LINES:
            raise ExcessiveAnswerError(f"headers in more than {HEAD_LIMIT_LINES} lines or parts")
        if self._bytes > HEAD_LIMIT_BYTES:
            raise ExcessiveAnswerError(f"more than {HEAD_LIMIT_BYTES // 1024} KiB of headers")
        if self._at == len(self._left):
            self._left, self._at = await self._stream.read(max_bytes, timeout), 0
        piece = self._piece()
        self._bytes += len(piece)
        self._taken_bytes += len(piece)
        return piece

    def _piece(self) -> bytes:
        """Take what is left, up to so many bytes and the end of so many lines."""
        start = end = self._at
        last = min(start + PIECE_BYTES, len(self._left))
        for _ in range(PIECE_LINES):
            found = self._left.find(b"\n", end, last)
            self._lines += 1
            if found < 0:
                end = last
                break
            end = found + 1
        self._at = end
        return self._left[start:end]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a request, or a part of one."""
        if self._at < len(self._left):
            # What came after the last answer is none to this question.
            raise httpcore.ReadError("more than one answer to a request")
        self._reads = self._lines = self._bytes = self._chunks = self._taken_bytes = 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return the same over TLS."""
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return BoundedStream(stream)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection tells of itself."""
        return self._stream.get_extra_info(info)
