"""One HTTP exchange with a registry: bounded in time, size and redirects.

Credentials are a value of the exchange, not of the client: they go to the origin (scheme, host and
port) that the exchange was opened for, and no redirect to another origin carries them, nor one
back from there. Pools of connections are used as they are, without the client that httpx has on
top of them: nothing of what that adds (cookies, redirects, authentication) is wanted here, and it
takes a third of a question's time.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from shimcore import __version__
from shimcore.registry.answers import TlsReport
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError, from_exception
from shimcore.registry.proxy import ProxyRules
from shimcore.registry.tls import report_session

if TYPE_CHECKING:
    import httpcore

MAX_REDIRECTS = 5  # public registries use one (to a CDN); Go's client allows ten
ERROR_BODY_LIMIT_BYTES = 64 * 1024
MAX_CONNECTIONS = 32  # for one registry; a node starting a hundred pods asks about a dozen images
KEEPALIVE_CONNECTIONS = 8
KEEPALIVE_S = 30.0
_USER_AGENT = f"image-cri-shim/{__version__}"
_REDIRECTS = {301, 302, 303, 307, 308}
_DEFAULT_PORTS = {"http": 80, "https": 443}
# DNS names (IDNA's ASCII form), IPv4 and, with colons, IPv6 addresses.
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_STALE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Origin(NamedTuple):
    """Scheme, host and port: the whole of what credentials are given to (RFC 6454 §4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of an absolute http or https URL."""
        port = url.port or _DEFAULT_PORTS.get(url.scheme, 0)
        return cls(url.scheme, url.host.lower(), port)

    def __str__(self) -> str:
        """Print as in a URL, the scheme's own port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if _DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


# URLs whose parts are remembered: images that are asked for at the same time.
ASKED_URLS = 256


def read_url(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Return an absolute http or https URL, without a user name, password or fragment in it.

    A relative one is read against `base`. Raises ValueError.
    """
    try:
        url = base.join(text) if base is not None else httpx.URL(text)
        if url.userinfo or url.fragment:
            url = url.copy_with(username="", password="", fragment=None)
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    if url.scheme not in _DEFAULT_PORTS:
        raise ValueError("neither an http nor an https URL")
    if not _HOST.fullmatch(url.raw_host):
        raise ValueError("a URL without a host")
    return url


@lru_cache(maxsize=ASKED_URLS)
def _asked(text: str) -> httpx.URL:
    """`read_url` of an absolute URL; the same few are asked again and again."""
    return read_url(text)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `deadline` is a time of the running loop's clock.

    `stay`: a redirect to another origin is an error, since the request is worthless (or harmful)
    without its credentials there.
    """

    method: str
    url: str
    deadline: float
    body_limit_bytes: int = 0
    accept: str = "*/*"
    authorization: str = field(default="", repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    stay: bool = False
    report_tls: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `origin` is where it came from, redirects followed."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    origin: Origin
    tls: TlsReport | None


class _StaleConnectionError(Exception):
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
        elif event.endswith("send_request_headers.started"):
            self.sent = True
        elif event.endswith("receive_response_headers.complete"):
            self.answered = True

    def timeout(self, registry: str, origin: Origin) -> UnreachableError:
        """Return what running out of time means at this point."""
        if self.answered:
            reason, fault = f"the answer of {origin} did not end in time", Fault.SILENT
        elif self.sent:
            reason, fault = f"{origin} took the request but did not answer in time", Fault.SILENT
        elif self.connected:
            reason, fault = f"the TLS handshake with {origin} did not end in time", Fault.CONNECT
        elif self.reused:
            reason, fault = f"all {MAX_CONNECTIONS} connections to {origin} are busy", Fault.SILENT
        else:
            reason, fault = f"no connection to {origin} in time", Fault.CONNECT
        return UnreachableError(registry, reason, fault)


class _Routes:
    """Pools of connections: one for each way, direct or through a proxy, that is in use."""

    def __init__(self, context: ssl.SSLContext, rules: ProxyRules) -> None:
        self._rules = rules
        self._options: dict[str, Any] = {
            "verify": context,
            "trust_env": False,
            "limits": httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=KEEPALIVE_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            ),
        }
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    def pool(self, origin: Origin) -> httpx.AsyncHTTPTransport:
        """Return the pool for an origin: the environment says through which proxy.

        Raises httpx.ProxyError when that proxy cannot be used.
        """
        proxy = self._rules.proxy_for(*origin)
        if proxy not in self._pools:
            try:
                pool = httpx.AsyncHTTPTransport(proxy=proxy or None, **self._options)
            except (ValueError, ImportError) as error:
                raise httpx.ProxyError(
                    f"HTTP_PROXY or HTTPS_PROXY cannot be used: {error}"
                ) from error
            self._pools[proxy] = pool
        return self._pools[proxy]

    async def aclose(self) -> None:
        """Close every pool."""
        for pool in self._pools.values():
            await pool.aclose()


class Transport:
    """Exchanges with one registry, and with the origins it points to, over pooled connections."""

    def __init__(self, registry: str, context: ssl.SSLContext, rules: ProxyRules) -> None:
        self._registry = registry
        self._routes = _Routes(context, rules)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._routes.aclose()

    async def send(self, ask: Ask) -> Answer:
        """Return the final answer. Raises UnreachableError, UnauthorizedError."""
        url, authorization = self._url(ask.url), ask.authorization
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._exchange(ask, url, authorization)
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
            return _asked(text)
        except ValueError as error:
            reason = f"its address is {error}"
            raise UnreachableError(self._registry, reason, Fault.ANSWERED) from error

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
        request = httpx.Request(
            ask.method,
            url,
            headers=_headers(ask, authorization),
            data=ask.form,
            extensions={"trace": progress},
        )
        try:
            async with asyncio.timeout_at(ask.deadline):
                response = await self._routes.pool(origin).handle_async_request(request)
                try:
                    return await self._read(ask, response, origin)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise progress.timeout(self._registry, origin) from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, UnicodeError) as error:
            if isinstance(error, _STALE) and progress.reused and not progress.answered:
                raise _StaleConnectionError(str(error)) from error
            connecting = not progress.sent
            raise from_exception(
                self._registry, str(origin), error, connecting=connecting
            ) from error

    async def _read(self, ask: Ask, response: httpx.Response, origin: Origin) -> Answer:
        """Read the body up to its limit; of an error's, only as much as the error codes need."""
        report = None
        if ask.report_tls:  # before the body: its end may close the connection
            stream = response.extensions["network_stream"]
            report = report_session(stream.get_extra_info("ssl_object"))
        failed = response.status_code >= 300
        limit = ERROR_BODY_LIMIT_BYTES if failed else ask.body_limit_bytes
        body = bytearray()
        async for chunk in _chunks(response):
            body += chunk
            if len(body) > limit:
                if failed or ask.body_limit_bytes == 0:
                    break
                raise self._unusable(f"more than {limit} bytes")
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if body and not failed and ask.body_limit_bytes and coding != "identity":
            raise self._unusable(f"Content-Encoding {coding!r}, which was not accepted")
        return Answer(response.status_code, response.headers, bytes(body), origin, report)


def _headers(ask: Ask, authorization: str) -> dict[str, str]:
    headers = {
        "Accept": ask.accept,
        # A digest is over the bytes as stored; and nothing here is worth unpacking.
        "Accept-Encoding": "identity",
        "User-Agent": _USER_AGENT,
    }
    if authorization:
        headers["Authorization"] = authorization
    return headers


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes from the connection."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - a pool's always is
    return aiter(stream)
