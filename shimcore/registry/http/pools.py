"""Pools of connections: one for each way, direct or through a proxy, that is in use."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import httpcore

from shimcore.lookup import LookupBackend
from shimcore.registry.http.proxy import Proxy, ProxyRules, read_proxy
from shimcore.registry.http.url import Origin
from shimcore.registry.http.wire import BoundedBackend

MAX_CONNECTIONS = 32  # for one registry; a node starting a hundred pods asks about a dozen images
KEEPALIVE_CONNECTIONS = 8
KEEPALIVE_S = 30.0
# What the event loop reads in one go, whoever sends; else the kernel's 6 MiB for each connection.
RECEIVE_BUFFER_BYTES = 64 * 1024


class Pools:
    """The connections to one registry and to the origins it points to."""

    def __init__(
        self,
        context: ssl.SSLContext,
        rules: ProxyRules,
        backend: LookupBackend | None = None,
    ) -> None:
        self._rules = rules
        backend = backend or BoundedBackend()
        self._lookups = backend.lookups
        self._options: dict[str, Any] = {
            "ssl_context": context,
            "max_connections": MAX_CONNECTIONS,
            "max_keepalive_connections": KEEPALIVE_CONNECTIONS,
            "keepalive_expiry": KEEPALIVE_S,
            "socket_options": [(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)],
            "network_backend": backend,
        }
        self._pools: dict[Proxy | None, httpcore.AsyncConnectionPool] = {}

    def proxy(self, origin: Origin) -> Proxy | None:
        """Return the proxy for an origin. Raises ValueError when it cannot be used."""
        text = self._rules.proxy_for(*origin)
        try:
            return read_proxy(text) if text else None
        except ValueError as error:
            raise ValueError(f"{origin.scheme.upper()}_PROXY cannot be used: {error}") from None

    def looked_up(self, host: str) -> str:
        """Return the name whose address is just being looked up; "" if it is not."""
        return host if self._lookups.running(host) else ""

    def pool(self, proxy: Proxy | None) -> httpcore.AsyncConnectionPool:
        """Return the pool of connections through a proxy, or of direct ones."""
        if proxy not in self._pools:
            self._pools[proxy] = self._make(proxy)
        return self._pools[proxy]

    def _make(self, proxy: Proxy | None) -> httpcore.AsyncConnectionPool:
        if proxy is None:
            return httpcore.AsyncConnectionPool(**self._options)
        url = httpcore.URL(
            scheme=proxy.scheme, host=proxy.host.strip("[]"), port=proxy.port, target="/"
        )
        return httpcore.AsyncHTTPProxy(url, proxy_auth=proxy.login, **self._options)

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()
