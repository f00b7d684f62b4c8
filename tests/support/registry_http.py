"""The HTTP/1.1 that the registry of tests needs (RFC 9112): requests in, answers out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import http
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HEAD_LIMIT_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; header names in lower case.

    `user` is the name of Basic credentials or of the owner of a Bearer token, "" without one.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    user: str = ""

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def auth_scheme(self) -> str:
        """Scheme of the Authorization field in lower case, "" without one."""
        return self.headers.get("authorization", "").partition(" ")[0].lower()

    @property
    def auth_value(self) -> str:
        """What follows the scheme in Authorization."""
        return self.headers.get("authorization", "").partition(" ")[2]

    @property
    def basic(self) -> tuple[str, str] | None:
        """User name and password of Basic credentials (RFC 7617)."""
        if self.auth_scheme != "basic":
            return None
        try:
            user, _, password = base64.b64decode(self.auth_value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user, password


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; Content-Length is added. To HEAD, the body's length is told but not sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self, *, head: bool, close: bool) -> bytes:
        """Return the bytes on the wire."""
        try:
            phrase = http.HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        fields = {"Content-Length": str(len(self.body)), **self.headers}
        if close:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else self.body)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request, None when the client is done. Raises ValueError for nonsense."""
    try:
        start = await reader.readexactly(1)
        if not start.isalpha():  # a TLS handshake, for one: its client waits for our answer
            raise ValueError("not HTTP")
        head = start + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise ValueError("a request that ends early") from error
    except asyncio.LimitOverrunError as error:
        raise ValueError("a request head that is too long") from error
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _version = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= BODY_LIMIT_BYTES:
        raise ValueError("a request body that is too long")
    return Request(method, target, headers, await reader.readexactly(length))
