"""The cluster's part at the API server: list and watch of a single object, as values.

Kubernetes' clients for Python begin a watch again at once when a server ends one, without a
pause, and ask for no bookmarks; here each watch is one request, and who calls decides about the
next one. Only configurations with `kubernetes` enabled import this module.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx

from shimcore.cluster import server
from shimcore.cluster.documents import DATA_KEY, Document, Event, Kind
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import read_kubeconfig
from shimcore.cluster.server import Object, Server, bounded, read_json
from shimcore.config.building import kubelet_config
from shimcore.config.model import KubernetesSource
from shimcore.jsontext import text_at

OVERTIME_S = 60.0
"""How much longer than agreed a watch may last before it counts as hung."""
SILENCE_S = 150.0
"""How long a watch may say nothing: a bookmark comes about every minute (apiserver's
defaultBookmarkFrequency). A proxy may hold a connection whose server is gone."""

# Of an object's other keys, in a warning; each has at most 253 characters.
_NAMED_KEYS = 3


class Api(Server):
    """Asks one API server for the two objects. Raises ClusterError and what is below it."""

    def __init__(self, source: KubernetesSource) -> None:
        self._source = source
        path = kubelet_config() if source.by_default else source.kubeconfig
        # HTTP/2: both watches share a connection.
        super().__init__(read_kubeconfig(path), http2=True)

    async def list(self, kind: Kind, *, fresh: bool, known: str = "") -> Event:
        """The object now; `fresh`: not from the server's cache.

        From the cache it is as new as the version `known`, or newer. Raises GoneError where the
        server has not come so far: it lags behind, or is another cluster's by now.
        """
        query = {} if fresh else {"resourceVersion": "0"}
        if not fresh and known.isascii() and known.isdecimal():
            query = {"resourceVersion": known, "resourceVersionMatch": "NotOlderThan"}
        answer = await self.whole("GET", self._path(kind), self._selecting(query))
        version = text_at(answer, "metadata", "resourceVersion")
        items = answer.get("items") or []
        if not version or not isinstance(items, list):
            raise ApiUnreachableError("the API server's answer is no list of objects")
        mine = [item for item in items if text_at(item, "metadata", "name") == self._source.name]
        return _event_of(kind, version, mine[0]) if mine else Event(version)

    async def watch(self, kind: Kind, version: str, timeout_s: float) -> AsyncGenerator[Event]:
        """What happens to the object after `version`, until the server ends it.

        The first event is a bookmark of ours: the server has accepted the watch.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(round(timeout_s), 1)),
        }
        async with (
            bounded(timeout_s + OVERTIME_S),
            self.asked("GET", self._path(kind), self._selecting(query)) as response,
        ):
            yield Event(version, bookmark=True)
            async for line in _lines(response):
                event = self._event(kind, read_json(line))
                if event is not None:
                    yield event

    def _path(self, kind: Kind) -> str:
        return f"/api/v1/namespaces/{self._source.namespace}/{kind.plural}"

    def _selecting(self, query: dict[str, str]) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._source.name}", **query}

    def _event(self, kind: Kind, tree: Object) -> Event | None:
        """The event; None for another object's, where a server does not know the selector."""
        what, item = tree.get("type"), tree.get("object")
        if what == "ERROR":
            code = item.get("code") if isinstance(item, dict) else None
            self.raise_for(code if isinstance(code, int) else 0, text_at(item, "message"))
        version = text_at(item, "metadata", "resourceVersion")
        if not version:
            raise ApiUnreachableError("the API server's watch sends what is no event")
        if what == "BOOKMARK":
            return Event(version, bookmark=True)
        if text_at(item, "metadata", "name") != self._source.name:
            return None
        return Event(version) if what == "DELETED" else _event_of(kind, version, item)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an endless answer. Raises ApiUnreachableError for one too long, and silence."""
    rest = b""
    pieces = response.aiter_bytes()
    while piece := await _next(pieces):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > server.LIMIT_BYTES:
            raise ApiUnreachableError("the API server's watch sends an event that is too long")
    if rest.strip():
        raise ApiUnreachableError("the API server's watch was cut off inside an event")


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    """The next bytes; empty at the end. Raises ApiUnreachableError where none come."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await anext(pieces, b"")
    except TimeoutError:
        reason = f"the API server's watch says nothing for {SILENCE_S:.0f} s"
    raise ApiUnreachableError(reason)


def _event_of(kind: Kind, version: str, item: Any) -> Event:
    """The object as it is, at a version of the server's."""
    data, binary = (_mapping(item, field) for field in ("data", "binaryData"))
    if DATA_KEY not in data and DATA_KEY not in binary:
        others = ", ".join(sorted({*data, *binary})[:_NAMED_KEYS])
        lack = f"it has no key {DATA_KEY}{others and f', but {others}'}"
        return Event(version, lack=lack)
    text = text_at(data, DATA_KEY)
    encoded = text if kind is Kind.SECRET else text_at(binary, DATA_KEY)
    if encoded:
        try:
            # What is not UTF-8 becomes what YAML does not allow, and so a fault of the document.
            # kubectl has such a one in a ConfigMap's binaryData.
            text = b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")
        except ValueError:
            text = "\0"
    at = text_at(item, "metadata", "resourceVersion")
    return Event(version, Document(text, at) if text.strip() else None)


def _mapping(item: Any, field: str) -> dict[str, Any]:
    found = item.get(field) if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}
