"""Serves a text over HTTP/1.1 in the event loop: one request a connection, everything bounded.

A connection that has not asked yet makes way for a new one, so that those who connect and say
nothing keep nobody out.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import cast

log = logging.getLogger("shimcore.daemon")

CONNECTIONS = 32
# Prometheus sends about 400 bytes.
REQUEST_BYTES = 8192
# For the whole exchange, a reader who reads slowly included.
EXCHANGE_S = 10.0
# The next text is not begun before this many times what making the last one took: who asks without
# a pause waits, and costs a fifth of the loop's time at most.
PAUSE_TIMES = 4

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]")  # RFC 9112 §3
_PLAIN = "text/plain; charset=utf-8"

Body = Callable[[], AsyncIterator[bytes]]


class MetricsPages:
    """The connections of `/metrics`; `body` makes its text, piece by piece."""

    def __init__(self, content_type: str, body: Body) -> None:
        self._content_type = content_type
        self._body = body
        self._asking: OrderedDict[_Exchange, None] = OrderedDict()
        self._answering: set[_Exchange] = set()
        self._making: asyncio.Task[bytes] | None = None
        self._not_before = 0.0

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Exchange(self)

    def room(self, beginning: int) -> bool:
        """Whether one more connection may come; the oldest that has not asked goes for it."""
        while len(self._asking) + len(self._answering) + beginning >= CONNECTIONS:
            if not self._asking:
                return False
            oldest, _ = self._asking.popitem(last=False)
            oldest.abort()
        return True

    def close(self) -> None:
        """End every connection."""
        for exchange in [*self._asking, *self._answering]:
            exchange.abort()
        if self._making is not None:
            self._making.cancel()

    def came(self, exchange: _Exchange) -> None:
        """A connection that has not asked yet."""
        self._asking[exchange] = None

    def asked(self, exchange: _Exchange) -> None:
        """It has asked."""
        self._asking.pop(exchange, None)
        self._answering.add(exchange)

    def left(self, exchange: _Exchange) -> None:
        """It is over."""
        self._asking.pop(exchange, None)
        self._answering.discard(exchange)

    async def answer(self, head: bytes) -> bytes:
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
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._not_before - loop.time())
            began = loop.time()
            text = b"".join([piece async for piece in self._body()])
        finally:
            self._making = None
        self._not_before = loop.time() + PAUSE_TIMES * (loop.time() - began)
        return text


class _Exchange(asyncio.Protocol):
    """One connection: a request's head, its answer, the end."""

    def __init__(self, pages: MetricsPages) -> None:
        self._pages = pages
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(EXCHANGE_S, self.abort)
        self._pages.came(self)

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._transport is None:
            return  # a body, or another request: this one's answer is the last
        self._read += data
        end = self._read.find(b"\r\n\r\n")
        if end < 0 and len(self._read) <= REQUEST_BYTES:
            return
        self._transport.pause_reading()
        self._pages.asked(self)
        head = bytes(self._read[:end]) if 0 <= end <= REQUEST_BYTES else None
        self._read.clear()
        self._task = self._loop.create_task(self._answer(head))

    async def _answer(self, head: bytes | None) -> None:
        try:
            if head is None:
                response = _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            else:
                response = await self._pages.answer(head)
        except Exception:
            log.exception("metrics cannot be told, please report it")
            response = _response(HTTPStatus.INTERNAL_SERVER_ERROR)
        if self._transport is not None:
            self._transport.write(response)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._pages.left(self)

    def abort(self) -> None:
        """End it as it is."""
        if self._transport is not None:
            self._transport.abort()


def _response(status: HTTPStatus, text: str = "", more: str = "") -> bytes:
    body = (text or f"{status.phrase}\n").encode()
    return _head(status, _PLAIN, len(body), more) + body


def _head(status: HTTPStatus, content_type: str, length: int, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n{more}\r\n"
    ).encode()
