"""The API server over HTTP: one request within its bounds, and what a refusal means.

Only those who ask it import this module: it costs about 9 MiB.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from shimcore import __version__
from shimcore.cluster.errors import (
    ApiUnreachableError,
    BusyError,
    ConflictError,
    GoneError,
    MissingError,
    RefusedError,
    TooLongError,
)
from shimcore.cluster.keepalive import KeptAliveTransport
from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.cluster.login import login_of
from shimcore.jsontext import object_in, text_at

ANSWER_S = 30.0
"""Bound on an answer, and on how long one to a watch may take to begin."""
LIMIT_BYTES = 4 * 1024 * 1024
"""Longest answer or event: an object is at most about 1.5 MiB (etcd's limit), in base64 2."""

# A host that is gone without a word is noticed after about a minute, at no cost to the server. A
# load balancer answers these itself, whatever has become of the server behind it.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_TIMEOUT = httpx.Timeout(10.0, read=None, pool=None)
_GONE, _GATEWAY_TIMEOUT = 410, 504
# apimachinery's NewTooLargeResourceVersionError, which older API servers give no cause beside.
_TOO_LARGE = "Too large resource version"
_TEXT_LIMIT = 300
# What a lookup without a thread or without memory says in words of its own.
_SHORTAGES = (errno.EAGAIN, errno.ENOMEM)
_LONGEST_WAIT_S = 3600.0
_REFUSALS: Mapping[int, type[RefusedError]] = {404: MissingError, 409: ConflictError}

Object = dict[str, Any]


class Server:
    """One API server, and one login. Raises no more than ClusterError and what is below it."""

    def __init__(self, config: Kubeconfig, *, http2: bool = False) -> None:
        self._config = config
        self._http2 = http2
        self._client = _client(config, http2)
        self.now = datetime.fromtimestamp(0, UTC)
        """Its clock, as its last answer had it (RFC 9110 §6.6.1, Date)."""

    async def aclose(self) -> None:
        """Close every connection, and with them every watch."""
        await self._client.aclose()

    async def use(self, config: Kubeconfig) -> None:
        """Go on with this one; no request may be under way."""
        client = _client(config, self._http2)
        await self.aclose()
        self._config, self._client = config, client

    async def whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """The object that it answers."""
        async with (
            bounded(ANSWER_S),
            self.asked(method, path, query, content, headers) as response,
        ):
            body = await _body(response)
            if len(body) > LIMIT_BYTES:
                raise TooLongError("the API server's answer is too long")
        return read_json(body)

    @asynccontextmanager
    async def asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """An answer that is no refusal, its body not read yet."""
        request = self._client.build_request(
            method, path, params=query, content=content, headers=headers
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._client.send(request, stream=True)
            self._read_clock(response)
            try:
                if not response.is_success:
                    await self._raise_for_response(response)
                yield response
            finally:
                await response.aclose()
        except (httpx.HTTPError, ssl.SSLError) as error:  # TLS 1.3 refuses with the first answer
            where = self._client.base_url.netloc.decode()
            raise ApiUnreachableError(f"{where}: {_reason(error)}") from error
        except TimeoutError as error:
            raise ApiUnreachableError("the API server does not answer in time") from error

    def raise_for(self, code: int, message: str, retry_after_s: float = 0.0) -> NoReturn:
        """Raise what the status code means; `message` is the server's own word."""
        reason = " ".join(message.split())[:_TEXT_LIMIT] or "no reason given"
        if code == _GONE or (code == _GATEWAY_TIMEOUT and _TOO_LARGE in reason):
            raise GoneError(reason)
        if code == httpx.codes.TOO_MANY_REQUESTS or code >= 500:
            raise BusyError(
                f"the API server answers {code}: {reason}", min(retry_after_s, _LONGEST_WAIT_S)
            )
        if code == httpx.codes.UNAUTHORIZED:
            text = f"the API server does not know {self._config.whose} login (401): {reason}"
        elif code == httpx.codes.FORBIDDEN:
            text = f"the API server refuses (403): {reason}; {self._config.rights}"
        else:
            text = f"the API server answers {code}: {reason}"
        raise _REFUSALS.get(code, RefusedError)(text, code)

    async def _raise_for_response(self, response: httpx.Response) -> NoReturn:
        try:
            message = text_at(read_json(await _body(response)), "message")
        except ApiUnreachableError:
            message = ""
        wait = response.headers.get("Retry-After", "")
        after_s = float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0
        self.raise_for(response.status_code, message, after_s)

    def _read_clock(self, response: httpx.Response) -> None:
        """Take the time over; an answer without one leaves the clock as it is."""
        try:
            told = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        self.now = told if told.tzinfo else told.replace(tzinfo=UTC)


@asynccontextmanager
async def bounded(limit_s: float) -> AsyncIterator[None]:
    """Raises ApiUnreachableError for what takes longer."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise ApiUnreachableError(
            f"the API server has not finished within {limit_s:.0f} s"
        ) from error


def read_json(content: bytes) -> Object:
    """The object. Raises ApiUnreachableError for what is none."""
    tree = object_in(content)
    if tree is None:
        # Not from the error of json, which holds the text: that may be the Secret.
        raise ApiUnreachableError("the API server sends what is not JSON")
    return tree


async def _body(response: httpx.Response) -> bytes:
    """What it holds, as far as it is read: at least a byte more than LIMIT_BYTES."""
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LIMIT_BYTES:
            break
    return bytes(content)


def _reason(error: BaseException) -> str:
    """The system's word for it where there is one; the client's own says only that it failed."""
    if isinstance(error, httpx.LocalProtocolError):
        return "the request cannot be sent"  # its text may hold a header
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or 'failed'}"
        if isinstance(cause, OSError) and cause.errno:
            told = isinstance(cause, socket.gaierror) or cause.errno in _SHORTAGES
            return (told and cause.strerror) or os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection was cut"
    return str(error) or type(error).__name__


def _client(config: Kubeconfig, http2: bool) -> httpx.AsyncClient:
    try:
        context = config.tls()
        return httpx.AsyncClient(
            base_url=config.server,
            transport=KeptAliveTransport(context, _KEEPALIVE, http2=http2),
            auth=login_of(config, context),
            timeout=_TIMEOUT,
            trust_env=False,
            headers={"User-Agent": f"image-cri-shim/{__version__}", "Accept": "application/json"},
        )
    except (OSError, ValueError, TypeError, httpx.InvalidURL) as error:
        # Not the error's text: it may hold what should have been a certificate.
        what = error.strerror if isinstance(error, OSError) else None
        fault = what or type(error).__name__
    raise ApiUnreachableError(f"{config.whose} certificates or login cannot be used: {fault}")
