"""One HTTP exchange with a registry: bounded in time, size, work and redirects.

Credentials are a value of the exchange, not of the client: they go to the origin (scheme, host and
port) that the exchange was opened for, and no redirect to another origin carries them, nor one
back from there. Pools of connections are used as they are, without the client that httpx has on
top of them: nothing of what that adds (cookies, redirects, authentication) is wanted here, and it
takes a third of a question's time.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpcore
import httpx

from shimcore import __version__
from shimcore.errors import ShimError
from shimcore.lookup import LookupBackend, not_in_time
from shimcore.registry.answers import TlsReport
from shimcore.registry.errors import (
    Fault,
    UnauthorizedError,
    UnreachableError,
    from_exception,
    from_proxy,
)
from shimcore.registry.http.pools import MAX_CONNECTIONS, Pools
from shimcore.registry.http.proxy import Proxy, ProxyRules
from shimcore.registry.http.tls import report_session
from shimcore.registry.http.url import Origin, asked_url, read_url
from shimcore.registry.http.wire import BoundedStream, ExcessiveAnswerError

MAX_REDIRECTS = 5  # public registries use one (to a CDN); Go's client allows ten
ERROR_BODY_LIMIT_BYTES = 64 * 1024
_USER_AGENT = f"image-cri-shim/{__version__}"
_REDIRECTS = {301, 302, 303, 307, 308}
_STALE = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `deadline` is a time of the running loop's clock.

    `scope`: what a token has to allow, where the registry asks for one. `stay`: a redirect to
    another origin is an error, since the request is worthless (or harmful) without its credentials
    there. `hashed`: the body is not kept, but its digest by this algorithm.
    """

    method: str
    url: str
    deadline: float
    body_limit_bytes: int = 0
    accept: str = "*/*"
    scope: str = ""
    authorization: str = field(default="", repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    stay: bool = False
    report_tls: bool = False
    hashed: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `origin` is where it came from, redirects followed.

    `digest` is that of the body, `sha256:…`, where the request asked for it and a body came.
    `proxy` is the one that a plain http answer came through, and may be of.
    """

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    origin: Origin
    tls: TlsReport | None
    digest: str = ""
    proxy: str = ""

    @property
    def through(self) -> str:
        """What to add to a reason: whose word it may be."""
        return f", by way of the proxy {self.proxy} (NO_PROXY leaves it out)" if self.proxy else ""

    @property
    def is_page(self) -> bool:
        """Whether it is a web page, as portals, single sign-on and proxies have.

        Quay calls a word that is none one.
        """
        media_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return media_type == "text/html" and self.body.lstrip()[:1] in (b"", b"<")


class _StaleConnectionError(ShimError):
    """A pooled connection that the server had closed before it took the request."""


class _Progress:
    """How far one attempt came, told by the HTTP library's trace events."""

    def __init__(self) -> None:
        self._socket: httpcore.AsyncNetworkStream | None = None
        self.connected = False
        self.reused = True
        self.sent = False
        self.answered = False

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        """Note one event, `connection.connect_tcp.started` and the like."""
        if event.endswith("connect_tcp.started"):
            self.reused = False
        elif event.endswith("connect_tcp.complete"):
            self.connected = True
            self._socket = details["return_value"]
        elif event.endswith("start_tls.failed") and self._socket is not None:
            # httpcore closes the socket itself, but not when the handshake is cancelled (which
            # is what a deadline does): it would stay open until it is collected.
            await self._socket.aclose()
        elif event.endswith("start_tls.started"):
            self.sent = self.answered = False  # if anything was, then to a proxy
        elif event.endswith("send_request_headers.started"):
            self.sent = True
        elif event.endswith("receive_response_headers.complete"):
            self.answered = True

    def timeout(
        self, registry: str, origin: Origin, proxy: Proxy | None, name: str
    ) -> UnreachableError:
        """Return what running out of time means at this point; `name` is still looked up."""
        if self.answered:
            reason, fault = f"the answer of {origin} did not end in time", Fault.SILENT
        elif self.sent:
            reason, fault = f"{origin} took the request but did not answer in time", Fault.SILENT
        elif self.connected:
            reason, fault = f"the TLS handshake with {origin} did not end in time", Fault.CONNECT
        elif self.reused:
            reason, fault = f"all {MAX_CONNECTIONS} connections to {origin} are busy", Fault.OWN
        elif name:
            reason, fault = not_in_time(name), Fault.CONNECT
        else:
            peer = f"the proxy {proxy}" if proxy else str(origin)
            reason, fault = f"no connection to {peer} in time", Fault.CONNECT
        return UnreachableError(registry, reason, fault)


class Transport:
    """Exchanges with one registry, and with the origins it points to, over pooled connections.

    `backend` makes the connections: of the operating system, if none is given.
    """

    def __init__(
        self,
        registry: str,
        context: ssl.SSLContext,
        rules: ProxyRules,
        backend: LookupBackend | None = None,
    ) -> None:
        self._registry = registry
        self._pools = Pools(context, rules, backend)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pools.aclose()

    async def send(self, ask: Ask) -> Answer:
        """Return the final answer. Raises UnreachableError, UnauthorizedError."""
        url, authorization = self._url(ask.url), ask.authorization
        first = Origin.of(url)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._exchange(ask, url, authorization)
            except UnreachableError as error:
                if Origin.of(url) == first:
                    raise
                # Where one answer points to may be dead: the one who answered is not.
                raise UnreachableError(self._registry, error.reason, Fault.ANSWERED) from error
            location = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            target = self._target(url, location)
            if Origin.of(target) != Origin.of(url):
                if ask.stay:
                    raise UnauthorizedError(
                        self._registry,
                        f"{answer.origin} redirects to {Origin.of(target)}, "
                        "and credentials do not follow a redirect to another host",
                    )
                authorization = ""
            url = target
        raise self._unusable(f"more than {MAX_REDIRECTS} redirects")

    def origin(self, url: str) -> Origin:
        """Return the origin of a URL. Raises UnreachableError when it is none."""
        return Origin.of(self._url(url))

    def _url(self, text: str) -> httpx.URL:
        try:
            return asked_url(text)
        except ValueError as error:
            reason = f"its address is {error}"
            raise UnreachableError(self._registry, reason, Fault.OWN) from error

    def _target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            return read_url(location, base=url)
        except ValueError as error:
            raise self._unusable(f"a redirect to {error}") from error

    def _unusable(self, what: str) -> UnreachableError:
        return UnreachableError(self._registry, f"answered with {what}", Fault.ANSWERED)

    async def _exchange(self, ask: Ask, url: httpx.URL, authorization: str) -> Answer:
        """Send once, or twice if the pooled connection turned out to be closed already."""
        try:
            return await self._attempt(ask, url, authorization)
        except _StaleConnectionError:
            pass  # the server closed it while it was idle: a new one is tried at once
        try:
            return await self._attempt(ask, url, authorization)
        except _StaleConnectionError as error:
            origin = str(Origin.of(url))
            raise from_exception(self._registry, origin, error, connecting=False) from error

    async def _attempt(self, ask: Ask, url: httpx.URL, authorization: str) -> Answer:
        progress, origin = _Progress(), Origin.of(url)
        try:
            proxy = self._pools.proxy(origin)
        except ValueError as error:
            raise UnreachableError(self._registry, str(error), Fault.CONNECT) from error
        request = _request(ask, url, authorization, progress)
        try:
            async with asyncio.timeout_at(ask.deadline):
                response = await self._pools.pool(proxy).handle_async_request(request)
                try:
                    return await self._read(ask, response, origin, proxy)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            name = self._pools.looked_up(proxy.host if proxy else request.url.host.decode())
            raise progress.timeout(self._registry, origin, proxy, name) from error
        except ExcessiveAnswerError as error:
            raise self._unusable(str(error)) from error
        except httpcore.ProxyError as error:
            raise from_proxy(self._registry, str(proxy), error) from error
        except _FAILURES as error:
            if isinstance(error, _STALE) and progress.reused and not progress.answered:
                raise _StaleConnectionError(str(error)) from error
            to_proxy = proxy is not None and not progress.connected
            peer = f"the proxy {proxy}" if to_proxy else str(origin)
            connecting = not progress.sent
            raise from_exception(self._registry, peer, error, connecting=connecting) from error

    async def _read(
        self, ask: Ask, response: httpcore.Response, origin: Origin, proxy: Proxy | None
    ) -> Answer:
        """Read the body up to its limit; of an error's, only as much as the error codes need."""
        report, stream = None, response.extensions["network_stream"]
        if ask.report_tls:  # before the body: its end may close the connection
            report = report_session(stream.get_extra_info("ssl_object"))
        failed = response.status >= 300
        body = _Body("" if failed else ask.hashed)
        limit = ERROR_BODY_LIMIT_BYTES if failed else ask.body_limit_bytes
        try:
            async for chunk in _chunks(response, stream, body):
                body.add(chunk)
                if body.size_bytes > limit:
                    if failed or ask.body_limit_bytes == 0:
                        break
                    raise self._unusable(f"more than {limit} bytes")
        except ExcessiveAnswerError:
            if not failed:
                raise
        headers = httpx.Headers(response.headers)
        coding = headers.get("Content-Encoding", "identity").lower()
        if body.size_bytes and not failed and ask.body_limit_bytes and coding != "identity":
            raise self._unusable(f"Content-Encoding {coding[:40]!r}, which was not accepted")
        through = str(proxy) if proxy is not None and origin.scheme == "http" else ""
        return Answer(
            response.status, headers, bytes(body.kept), origin, report, body.digest(), through
        )


class _Body:
    """A body as it comes: kept, or only its digest."""

    def __init__(self, algorithm: str) -> None:
        self.kept = bytearray()
        self.size_bytes = 0
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm) if algorithm else None

    def add(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        if self._hash is None:
            self.kept += chunk
        else:
            self._hash.update(chunk)

    def digest(self) -> str:
        if self._hash is None or not self.size_bytes:
            return ""
        return f"{self._algorithm}:{self._hash.hexdigest()}"


def _request(ask: Ask, url: httpx.URL, authorization: str, progress: _Progress) -> httpcore.Request:
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc.decode("ascii"),
        "Accept": ask.accept,
        # A digest is over the bytes as stored; and nothing here is worth unpacking.
        "Accept-Encoding": "identity",
        "User-Agent": _USER_AGENT,
    }
    if authorization:
        headers["Authorization"] = authorization
    content = None
    if ask.form is not None:
        content = urlencode(ask.form).encode("ascii")
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers["Content-Length"] = str(len(content))
    return httpcore.Request(
        ask.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=headers,
        content=content,
        extensions={"trace": progress},
    )


async def _chunks(response: httpcore.Response, stream: object, body: _Body) -> AsyncIterator[bytes]:
    """The body as it comes from the connection, which is told of it."""
    source = response.stream
    assert isinstance(source, AsyncIterable)  # noqa: S101 - an asynchronous pool's always is
    bounded = stream if isinstance(stream, BoundedStream) else None  # None: it was upgraded (101)
    if bounded is not None:
        bounded.answered()
    async for chunk in source:
        yield chunk
        if bounded is not None:
            bounded.chunk(body.size_bytes)
