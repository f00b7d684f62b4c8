"""HTTP/2's PING on a connection that is silent, as client-go sends it.

Load balancers cut what is idle, from 20 s on, and one whose backend is gone may say nothing. A
PING is a frame of 17 bytes that any HTTP/2 server answers by itself (RFC 9113 §6.7), at no cost
to what it serves. httpx and httpcore send none.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import httpcore
import httpx

from shimcore.lookup import LookupBackend, Lookups

PING_AFTER_S = 15.0
"""Silence of the peer after which it is asked; client-go waits for 30 s."""
ACK_S = 15.0
"""How long it may take to answer; client-go's, too."""

# RFC 9113 §4.1, §6.7: 8 bytes, type 6, no flags, stream 0. httpcore takes no notice of the answer.
_PING = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + b"shimping"

_lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, Lookups] = WeakKeyDictionary()


class KeptAliveTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, without proxies, whose HTTP/2 connections are kept alive."""

    def __init__(
        self, context: ssl.SSLContext, options: Iterable[httpcore.SOCKET_OPTION], *, http2: bool
    ) -> None:
        super().__init__(verify=context, trust_env=False)
        # It takes no backend itself.
        self._pool = httpcore.AsyncConnectionPool(
            context,
            keepalive_expiry=5.0,
            http2=http2,
            network_backend=_Backend(),
            socket_options=options,
        )


class _Backend(LookupBackend):
    """Makes connections that ask a silent peer whether it is there."""

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        # One connection after the other is made, each by a backend of its own.
        self.lookups = _lookups.setdefault(asyncio.get_running_loop(), self.lookups)
        return _Stream(await super().connect_tcp(*arguments, **options))


class _Stream(httpcore.AsyncNetworkStream):
    """A connection; over HTTP/2, a read ends in an error soon after the peer has gone."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()
        secured = stream.get_extra_info("ssl_object")
        self._pings = secured is not None and secured.selected_alpn_protocol() == "h2"

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; `timeout` counts for HTTP/1.1 alone."""
        if not self._pings:
            return await self._stream.read(max_bytes, timeout)
        try:
            return await self._stream.read(max_bytes, PING_AFTER_S)
        except httpcore.ReadTimeout:
            await self.write(_PING, ACK_S)
        try:
            return await self._stream.read(max_bytes, ACK_S)
        except httpcore.ReadTimeout:
            reason = f"no answer to a PING within {ACK_S:.0f} s"
        raise httpcore.ReadError(reason)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send frames, whole: a PING is never in between."""
        async with self._turn:
            await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
