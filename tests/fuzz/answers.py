"""Answers of a registry, and of whatever it points to, under the real client without sockets.

What is checked:
- a question ends as a finding or as one of the client's own errors, in one short printable line;
- a ping ends as a report;
- the login goes in plain text to the registry's own host alone;
- what is asked and what is kept is bounded.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Iterable

import httpcore

from shimcore.config import Credentials, Registry
from shimcore.lookup import LookupBackend
from shimcore.reference import Mirror, Reference
from shimcore.registry.answers import Outcome
from shimcore.registry.auth import Authenticator
from shimcore.registry.errors import UnauthorizedError, UnreachableError
from shimcore.registry.http.proxy import ProxyRules
from shimcore.registry.http.transport import Transport
from shimcore.registry.http.wire import BoundedStream
from shimcore.registry.manifest import find_manifest
from shimcore.registry.ping import Pinger
from shimcore.registry.token import CACHE_LIMIT_BYTES
from tests.fuzz.reader import Reader

HOST, URL = "hub", "http://hub:5000"
LOGIN = Credentials("admin", "s3cret-Passw0rd")
REFRESHED = Credentials("", "", "1dentity-t0ken")
SECRETS = (base64.b64encode(b"admin:s3cret-Passw0rd"), b"1dentity-t0ken")
DIGEST = b"sha256:" + b"0" * 64
HEADS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 401 Unauthorized\r\n",
    b"HTTP/1.1 404 Not Found\r\n",
    b"HTTP/1.1 307 Moved\r\n",
    b"HTTP/1.1 405 No\r\n",
    b"HTTP/1.1 500 Oh\r\n",
    b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 400 Bad\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: ",
)
FIELDS = (
    b'WWW-Authenticate: Bearer realm="https://auth/token",service="hub"\r\n',
    b'WWW-Authenticate: Bearer realm="http://hub:5000/token"\r\n',
    b'WWW-Authenticate: Bearer realm="http://elsewhere/token"\r\n',
    b'WWW-Authenticate: Basic realm="hub"\r\n',
    b"WWW-Authenticate: ",
    b"Location: https://cdn/x\r\n",
    b"Location: http://cdn:99999/\r\n",
    b"Location: /v2/other\r\n",
    b"Location: http://",
    b"Docker-Content-Digest: " + DIGEST + b"\r\n",
    b"Content-Type: application/vnd.docker.distribution.manifest.v1+json\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: ",
    b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"\r\n",
)
BODIES = (
    b'{"token": "t0ken", "expires_in": 60}',
    b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}',
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\nTrailer: x\r\n",
)
LONGEST_REASON = 400
MOST_REQUESTS = 100
QUESTIONS = 3

_context = ssl.create_default_context()
_loop = asyncio.new_event_loop()


class _Stream(httpcore.AsyncNetworkStream):
    """A connection: to what is written comes the next answer, then nothing more."""

    def __init__(self, server: _Server, host: str) -> None:
        self._server = server
        self._host = host
        self._plain = True
        self._answer = b""
        self._step = 1

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        piece, self._answer = self._answer[: self._step], self._answer[self._step :]
        return piece[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._plain and self._host != HOST:
            assert not [secret for secret in SECRETS if secret in buffer], "a login in plain text"
        if b" HTTP/1.1\r\n" in buffer:
            self._answer, self._step = self._server.answer()

    async def aclose(self) -> None:
        pass

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._plain = False
        return self

    def get_extra_info(self, info: str) -> object:
        return None


class _Server(LookupBackend):
    """Every host there is."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self._requests = 0

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        assert 0 < port < 65536
        host.encode("idna")
        return BoundedStream(_Stream(self, host))

    def answer(self) -> tuple[bytes, int]:
        """The bytes of the next one, and how many come at a time."""
        self._requests += 1
        assert self._requests <= MOST_REQUESTS
        reader = self._reader
        mode = reader.byte()
        step = 65536 if mode & 1 else 1 + mode // 8
        parts = [HEADS[reader.byte() % len(HEADS)]] if mode & 2 else []
        for _ in range(reader.byte() % 8):
            parts.append(FIELDS[reader.byte() % len(FIELDS)])
            if not parts[-1].endswith(b"\n"):
                parts.append(reader.string() + b"\r\n")
        if mode & 4:
            parts.append(b"\r\n" + BODIES[reader.byte() % len(BODIES)])
        parts.append(reader.string() * (1 + (reader.byte() & 0x7F)))
        return b"".join(parts), step


async def _play(reader: Reader) -> None:
    mode = reader.byte()
    credentials = (None, LOGIN, REFRESHED)[mode % 3]
    registry = Registry(
        address=URL,
        scheme="http",
        host="hub:5000",
        priority=1,
        is_hub=True,
        credentials=credentials,
        credentials_source="",
        ca_file=None,
        insecure_skip_verify=False,
        mirror=Mirror("hub:5000"),
        stall_timeout_s=30.0,
    )
    rules = ProxyRules("", "", ())
    transport = Transport(registry.host, _context, rules, _Server(reader))
    home = transport.origin(URL)
    now = 0.0

    def clock() -> float:
        return now

    deadline = _loop.time() + 60
    if mode & 0x40:
        report = await Pinger(registry, URL, transport, rules, clock).ping(deadline)
        _check(report.detail)
    authenticator = Authenticator(registry.host, home, credentials, transport, clock)
    for number in range(QUESTIONS):
        digest = DIGEST.decode() if mode & 0x20 else None
        image = Reference(registry.host, f"library/x{number % 2}", "latest", digest)
        try:
            finding = await find_manifest(registry.host, URL, authenticator, image, deadline)
        except (UnauthorizedError, UnreachableError) as error:
            _check(error.reason)
        else:
            _check(finding.detail)
            assert finding.outcome in (Outcome.FOUND, Outcome.ABSENT)
            assert finding.digest is None or re.fullmatch(r"\S{1,200}", finding.digest)
        now += reader.byte()
        assert authenticator._tokens.size_bytes <= CACHE_LIMIT_BYTES
    await transport.aclose()


def _check(reason: str) -> None:
    assert reason.isprintable(), "more than a line"
    assert len(reason) <= LONGEST_REASON
    assert LOGIN.password not in reason


def answers(data: bytes) -> None:
    """One client, a few questions, and the answers that it gets."""
    _loop.run_until_complete(_play(Reader(data)))
