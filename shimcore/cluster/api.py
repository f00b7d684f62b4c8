"""One connection to the API server: list and watch of a single object, as values.

Kubernetes' clients for Python begin a watch again at once when a server ends one, without a
pause, and ask for no bookmarks; here each watch is one request, and who calls decides about the
next one. Only configurations with `kubernetes` enabled import this module: it costs about 9 MiB.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2  # noqa: F401 - httpx would miss it only when it talks: both watches share a connection
import httpx

from shimcore import __version__
from shimcore.cluster.documents import DATA_KEY, Document, Event, Kind
from shimcore.cluster.errors import ApiUnreachableError, GoneError, RefusedError
from shimcore.cluster.kubeconfig import Kubeconfig, read_kubeconfig
from shimcore.cluster.login import login_of
from shimcore.config.model import KubernetesSource

ANSWER_S = 30.0
"""Bound on a list, and on how long an answer to a watch may take to begin."""
OVERTIME_S = 60.0
"""How much longer than agreed a watch may last before it counts as hung."""
LIMIT_BYTES = 4 * 1024 * 1024
"""Longest list or event: an object is at most about 1.5 MiB (etcd's limit), in base64 2."""

# A peer that is gone without a word is noticed after about a minute, at no cost to the server.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_TIMEOUT = httpx.Timeout(10.0, read=None, pool=None)
_GONE = 410
_TEXT_LIMIT = 300


class Api:
    """Asks one API server. Its methods raise no more than ClusterError and what is below it."""

    def __init__(self, source: KubernetesSource) -> None:
        self._source = source
        self._client = _client(read_kubeconfig(source.kubeconfig))

    async def aclose(self) -> None:
        """Close the connection, and with it every watch."""
        await self._client.aclose()

    async def list(self, kind: Kind, *, fresh: bool) -> Event:
        """The object now; `fresh`: not from the server's cache."""
        parameters = {} if fresh else {"resourceVersion": "0"}
        async with _bounded(ANSWER_S), self._asked(kind, parameters) as response:
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > LIMIT_BYTES:
                    raise ApiUnreachableError("the API server's answer is too long")
        answer = _json(bytes(content))
        version = _field(answer, "metadata", "resourceVersion")
        items = answer.get("items") or []
        if not version or not isinstance(items, list):
            raise ApiUnreachableError("the API server's answer is no list of objects")
        mine = [item for item in items if _field(item, "metadata", "name") == self._source.name]
        return Event(version, _document(kind, mine[0]) if mine else None)

    async def watch(self, kind: Kind, version: str, timeout_s: float) -> AsyncGenerator[Event]:
        """What happens to the object after `version`, until the server ends it.

        The first event is a bookmark of ours: the server has accepted the watch.
        """
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(round(timeout_s), 1)),
        }
        async with _bounded(timeout_s + OVERTIME_S), self._asked(kind, parameters) as response:
            yield Event(version, bookmark=True)
            async for line in _lines(response):
                event = self._event(kind, _json(line))
                if event is not None:
                    yield event

    def _event(self, kind: Kind, tree: dict[str, Any]) -> Event | None:
        """The event; None for another object's, where a server does not know the selector."""
        what, item = tree.get("type"), tree.get("object")
        if what == "ERROR":
            _raise_for(_number(item, "code"), _field(item, "message"))
        version = _field(item, "metadata", "resourceVersion")
        if not version:
            raise ApiUnreachableError("the API server's watch sends what is no event")
        if what == "BOOKMARK":
            return Event(version, bookmark=True)
        if _field(item, "metadata", "name") != self._source.name:
            return None
        return Event(version, None if what == "DELETED" else _document(kind, item))

    @asynccontextmanager
    async def _asked(self, kind: Kind, parameters: dict[str, str]) -> AsyncIterator[httpx.Response]:
        source = self._source
        request = self._client.build_request(
            "GET",
            f"/api/v1/namespaces/{source.namespace}/{kind.plural}",
            params={"fieldSelector": f"metadata.name={source.name}", **parameters},
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._client.send(request, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    await _raise_for_response(response)
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            where = self._client.base_url.netloc.decode()
            raise ApiUnreachableError(f"{where}: {_reason(error)}") from error
        except TimeoutError as error:
            raise ApiUnreachableError("the API server does not answer in time") from error


@asynccontextmanager
async def _bounded(limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise ApiUnreachableError(
            f"the API server has not finished within {limit_s:.0f} s"
        ) from error


def _reason(error: BaseException) -> str:
    """The system's word for it where there is one; the client's own says only that it failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or 'failed'}"
        if isinstance(cause, socket.gaierror) and cause.strerror:
            return cause.strerror
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection was cut"
    return str(error) or type(error).__name__


def _client(config: Kubeconfig) -> httpx.AsyncClient:
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=config.tls(), trust_env=False, http2=True, socket_options=_KEEPALIVE
        )
        return httpx.AsyncClient(
            base_url=config.server,
            transport=transport,
            auth=login_of(config),
            timeout=_TIMEOUT,
            trust_env=False,
            headers={"User-Agent": f"image-cri-shim/{__version__}", "Accept": "application/json"},
        )
    except (OSError, ValueError, TypeError, httpx.InvalidURL) as error:
        # Not the error's text: it may hold what should have been a certificate.
        what = error.strerror if isinstance(error, OSError) else None
        fault = what or type(error).__name__
    raise ApiUnreachableError(f"the kubeconfig's certificates or login cannot be used: {fault}")


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an endless answer. Raises ApiUnreachableError where one is too long."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > LIMIT_BYTES:
            raise ApiUnreachableError("the API server's watch sends an event that is too long")
    if rest.strip():
        raise ApiUnreachableError("the API server's watch was cut off inside an event")


async def _raise_for_response(response: httpx.Response) -> None:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LIMIT_BYTES:
            break
    try:
        message = _field(_json(bytes(content)), "message")
    except ApiUnreachableError:
        message = ""
    wait = response.headers.get("Retry-After", "")
    _raise_for(response.status_code, message, int(wait) if wait.isdecimal() else 0)


def _raise_for(code: int, message: str, retry_after_s: float = 0.0) -> None:
    """Raise what the status code means; `message` is the server's own word."""
    reason = " ".join(message.split())[:_TEXT_LIMIT] or "no reason given"
    if code == _GONE:
        raise GoneError(reason)
    if code == httpx.codes.TOO_MANY_REQUESTS or code >= 500:
        raise ApiUnreachableError(
            f"the API server answers {code}: {reason}", min(retry_after_s, 3600.0)
        )
    if code == httpx.codes.UNAUTHORIZED:
        raise RefusedError(f"the API server does not know the kubeconfig's login (401): {reason}")
    if code == httpx.codes.FORBIDDEN:
        hint = "nodes need what contrib/kubernetes/rbac.yaml grants"
        raise RefusedError(f"the API server refuses (403): {reason}; {hint}", kind_only=True)
    raise RefusedError(f"the API server answers {code}: {reason}", kind_only=True)


def _json(content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        tree = None
    if isinstance(tree, dict):
        return tree
    # Raised outside the handler: the error of json holds the text, which may be the Secret.
    raise ApiUnreachableError("the API server sends what is not JSON")


def _field(tree: Any, *names: str) -> str:
    """The text at a path in a tree; empty where there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, str) else ""


def _number(tree: Any, name: str) -> int:
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if isinstance(value, int) else 0


def _document(kind: Kind, item: Any) -> Document | None:
    """What the object holds under `registries.yaml`; None for nothing."""
    text = _field(item, "data", DATA_KEY)
    if kind is Kind.SECRET and text:
        try:
            # What is not UTF-8 becomes what YAML does not allow, and so a fault of the document.
            text = b64decode(text, validate=True).decode("utf-8", "surrogateescape")
        except ValueError:
            text = "\0"
    version = _field(item, "metadata", "resourceVersion")
    return Document(text, version) if text.strip() else None
