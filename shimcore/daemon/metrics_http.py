"""Serves a text over HTTP/1.1 in the event loop: one request a connection, everything bounded.

A connection that has not asked yet makes way for a new one, so that those who connect and say
nothing keep nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from asyncio import StreamReader, StreamWriter
from collections import OrderedDict
from collections.abc import Callable, Iterator
from http import HTTPStatus

log = logging.getLogger("shimcore.daemon")

CONNECTIONS = 32
# Prometheus sends about 400 bytes.
REQUEST_BYTES = 8192
# For the whole exchange, a reader who reads slowly included.
EXCHANGE_S = 10.0
# How long making the text may keep the loop at a time; a piece is not divided.
TURN_S = 0.002
# The next text is not begun before this many times the work on the last one: who asks without a
# pause waits, and costs a fifth of the loop's time at most.
PAUSE_TIMES = 4

_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (?:(?i:http)://[^\s/?]*+)?+(\S++) HTTP/1\.[01]"
)  # RFC 9112 §3; the absolute form (§3.2.2) names the same
_PLAIN = "text/plain; charset=utf-8"

Body = Callable[[], Iterator[bytes]]


class MetricsPages:
    """The connections of `/metrics`; `body` makes its text, piece by piece."""

    def __init__(self, content_type: str, body: Body) -> None:
        self._content_type = content_type
        self._body = body
        self._asking: OrderedDict[StreamWriter, None] = OrderedDict()
        self._answering: set[StreamWriter] = set()
        self._making: asyncio.Task[bytes] | None = None
        self._not_before = 0.0

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return asyncio.StreamReaderProtocol(StreamReader(limit=REQUEST_BYTES), self._exchange)

    def room(self, beginning: int) -> bool:
        """Whether one more connection may come; the oldest that has not asked goes for it."""
        while len(self._asking) + len(self._answering) + beginning >= CONNECTIONS:
            if not self._asking:
                return False
            oldest, _ = self._asking.popitem(last=False)
            oldest.transport.abort()
        return True

    def close(self) -> None:
        """End every connection."""
        for writer in [*self._asking, *self._answering]:
            writer.transport.abort()
        if self._making is not None:
            self._making.cancel()
            self._making = None  # one that has not begun does not do that itself

    async def _exchange(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection: a request's head, its answer, the end."""
        self._asking[writer] = None
        # It may be the other side that ends it, or this one that stops.
        with contextlib.suppress(
            TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            async with asyncio.timeout(EXCHANGE_S):
                writer.write(await self._response(reader, writer))
                writer.close()  # a body, or another request: this one's answer is the last
                await writer.wait_closed()
        writer.transport.abort()
        self._asking.pop(writer, None)
        self._answering.discard(writer)

    async def _response(self, reader: StreamReader, writer: StreamWriter) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._asking.pop(writer, None)
        self._answering.add(writer)
        try:
            return await self._answer(head)
        except Exception:
            log.exception("metrics cannot be told, please report it")
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _answer(self, head: bytes) -> bytes:
        """The whole response to a request's head."""
        line = _LINE.fullmatch(head.split(b"\r\n", 1)[0])
        if line is None:
            return _response(HTTPStatus.BAD_REQUEST)
        method, target = line.groups()
        if target.split(b"?", 1)[0] != b"/metrics":
            return _response(HTTPStatus.NOT_FOUND, "see /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, more="Allow: GET, HEAD\r\n")
        text = await self._text()
        head = _head(HTTPStatus.OK, self._content_type, len(text))
        return head if method == b"HEAD" else head + text

    async def _text(self) -> bytes:
        """Made once for all who ask meanwhile: a flood of questions is the work of one."""
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._made())
        return await asyncio.shield(self._making)

    async def _made(self) -> bytes:
        try:
            await asyncio.sleep(self._not_before - time.monotonic())
            pieces: list[bytes] = []
            worked, began = 0.0, time.monotonic()
            for piece in self._body():
                pieces.append(piece)
                turn = time.monotonic() - began
                if turn > TURN_S:  # others have their turn
                    worked += turn
                    await asyncio.sleep(TURN_S)
                    began = time.monotonic()
        finally:
            self._making = None
        now = time.monotonic()
        self._not_before = now + PAUSE_TIMES * (worked + now - began)
        return b"".join(pieces)


def _response(status: HTTPStatus, text: str = "", more: str = "") -> bytes:
    body = (text or f"{status.phrase}\n").encode()
    return _head(status, _PLAIN, len(body), more) + body


def _head(status: HTTPStatus, content_type: str, length: int, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n{more}\r\n"
    ).encode()
