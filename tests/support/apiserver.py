"""A stand-in for the Kubernetes API server: list and watch of ConfigMaps and Secrets.

It speaks HTTP/1.1 with resource versions, field selectors, bookmarks, 410, and can be told to
refuse (401, 403), to be slow, to cut connections and to go away and come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "node-token-k7q2"
KINDS = {"configmaps": "ConfigMap", "secrets": "Secret"}


@dataclass(frozen=True)
class Asked:
    """One request: `verb` is list or watch; `at` is the event loop's clock."""

    verb: str
    kind: str
    version: str
    at: float
    answered: int


@dataclass
class Change:
    """One thing that happened, at a version of the whole store."""

    version: int
    kind: str
    type: str
    item: dict[str, Any]


@dataclass
class Trouble:
    """What the server does wrong."""

    codes: dict[str, int] = field(default_factory=dict)  # by kind; "" is every kind
    retry_after: int | None = None
    delay_s: float = 0.0
    cut_inside_event: bool = False
    garbage: bytes = b""
    ignore_selector: bool = False


class StandInApi:
    """Starts and stops at one port; what it stores outlives a stop."""

    def __init__(
        self, *, namespace: str = "kube-system", bookmark_s: float = 60.0, tls: Any = None
    ) -> None:
        self.namespace = namespace
        self.bookmark_s = bookmark_s
        self.trouble = Trouble()
        self.asked: list[Asked] = []
        self.connections = 0
        self.tls: ssl.SSLContext | None = tls
        self._items: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = 100
        self._oldest = 0
        self._changes: list[Change] = []
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen, at the same port as before if there was one."""
        self._ending = asyncio.Event()
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self._port, ssl=self.tls, backlog=4096
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away, with every connection cut."""
        assert self._server is not None
        self._server.close()
        self.cut()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def end_watches(self) -> None:
        """End every watch in good order, as a server that shuts down does."""
        self._ending.set()
        self._ending = asyncio.Event()

    def kubeconfig(self, path: Path, *, token: str = TOKEN, ca_file: Path | None = None) -> Path:
        """Write a kubeconfig for it."""
        cluster: dict[str, str] = {"server": self.url}
        if ca_file:
            cluster["certificate-authority"] = str(ca_file)
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "node", "user": {"token": token}}],
            "contexts": [{"name": "node", "context": {"cluster": "it", "user": "node"}}],
        }
        path.write_text(yaml.safe_dump(tree))
        path.chmod(0o600)
        return path

    # -- the store

    def put(
        self, kind: str, text: str | bytes, name: str = "image-cri-shim", **labels: str
    ) -> None:
        """Create or change the object; `text` goes under registries.yaml."""
        raw = text.encode() if isinstance(text, str) else text
        data = b64encode(raw).decode() if kind == "Secret" else raw.decode()
        self.put_data(kind, {"registries.yaml": data}, name, **labels)

    def put_data(
        self, kind: str, data: dict[str, str], name: str = "image-cri-shim", **labels: str
    ) -> None:
        """The same with any data."""
        self.put_item(kind, {"data": data}, name, **labels)

    def put_item(
        self, kind: str, fields: dict[str, Any], name: str = "image-cri-shim", **labels: str
    ) -> None:
        """The same with any fields beside the metadata."""
        self._version += 1
        there = (kind, name) in self._items
        self._items[kind, name] = {
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "resourceVersion": str(self._version),
                "labels": labels,
            },
            **fields,
        }
        self._happened(kind, "MODIFIED" if there else "ADDED", self._items[kind, name])

    def delete(self, kind: str, name: str = "image-cri-shim") -> None:
        """Delete the object."""
        self._version += 1
        item = self._items.pop((kind, name))
        metadata = {**item["metadata"], "resourceVersion": str(self._version)}
        self._happened(kind, "DELETED", {**item, "metadata": metadata})

    def pass_versions(self, count: int) -> None:
        """Let other objects change this many times."""
        self._version += count

    def forget(self) -> None:
        """Forget what happened so far, as compaction does: older versions get 410."""
        self._changes.clear()
        self._oldest = self._version

    def _happened(self, kind: str, what: str, item: dict[str, Any]) -> None:
        self._changes.append(Change(self._version, kind, what, item))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- the wire

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                answering = asyncio.ensure_future(self._answer(head, writer))
                # A client says nothing while it is answered; what comes is the end.
                leaving = asyncio.ensure_future(reader.read(1))
                try:
                    await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
                    if leaving.done() or not answering.result():
                        break
                finally:
                    answering.cancel()
                    leaving.cancel()
                    await asyncio.gather(answering, leaving, return_exceptions=True)
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may be used again."""
        line, *headers = head.split("\r\n")
        target = urlsplit(line.split(" ")[1])
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        plural = target.path.rpartition("/")[2]
        kind = KINDS.get(plural, "")
        watch = query.get("watch") == "true"
        known = f"authorization: bearer {TOKEN}" in (header.lower() for header in headers)
        code = self._code(kind, target.path, query, watch=watch, known=known)
        version = query.get("resourceVersion", "")
        verb = "watch" if watch else "list"
        self.asked.append(Asked(verb, kind, version, asyncio.get_running_loop().time(), code))
        await asyncio.sleep(self.trouble.delay_s)
        if code != 200:
            return self._refuse(writer, code, kind)
        if watch:
            await self._watch(writer, kind, query)
            return False
        selected = _selected(query) if not self.trouble.ignore_selector else ""
        items = [
            item
            for (one, name), item in self._items.items()
            if one == kind and selected in {"", name}
        ]
        metadata = {"resourceVersion": str(self._version)}
        body = {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": items}
        _send(writer, 200, self.trouble.garbage or json.dumps(body).encode())
        await writer.drain()
        return True

    def _code(
        self, kind: str, path: str, query: dict[str, str], *, watch: bool, known: bool
    ) -> int:
        if not known:
            return 401
        trouble = self.trouble.codes.get(kind) or self.trouble.codes.get("")
        if trouble:
            return trouble
        if not kind or f"/namespaces/{self.namespace}/" not in path:
            return 404
        version = int(query.get("resourceVersion") or "0")
        if watch and version < self._oldest:
            return 410
        if query.get("resourceVersionMatch") == "NotOlderThan" and version > self._version:
            return 504
        # What RBAC's resourceNames ask for.
        return 200 if _selected(query) == "image-cri-shim" else 403

    def _refuse(self, writer: asyncio.StreamWriter, code: int, kind: str) -> bool:
        body = {
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "message": "Timeout: Too large resource version: 105, current: 103"
            if code == 504
            else f'{kind.lower()}s "image-cri-shim" is refused with {code}',
        }
        _send(writer, code, json.dumps(body).encode(), self.trouble.retry_after)
        return True

    async def _watch(self, writer: asyncio.StreamWriter, kind: str, query: dict[str, str]) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(query["timeoutSeconds"])):
                await self._stream(writer, kind, query)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, kind: str, query: dict[str, str]) -> None:
        position = int(query["resourceVersion"])
        ending = self._ending
        while not ending.is_set():
            changed = self._changed
            if position < self._oldest:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                _chunk(writer, {"type": "ERROR", "object": status})
                return
            for change in [one for one in self._changes if one.version > position]:
                position = change.version
                name = change.item["metadata"]["name"]
                wanted = self.trouble.ignore_selector or name == _selected(query)
                if change.kind == kind and wanted:
                    await self._send_event(writer, change.type, change.item)
            try:
                async with asyncio.timeout(self.bookmark_s):
                    await _either(changed, ending)
            except TimeoutError:
                if self._changes and self._changes[-1].version > position:
                    continue  # it happened at this very moment; a bookmark would skip it
                position = self._version
                if query.get("allowWatchBookmarks") == "true":
                    metadata = {"resourceVersion": str(position)}
                    await self._send_event(writer, "BOOKMARK", {"metadata": metadata})

    async def _send_event(
        self, writer: asyncio.StreamWriter, what: str, item: dict[str, Any]
    ) -> None:
        if self.trouble.garbage:
            writer.write(b"%x\r\n%s\r\n" % (len(self.trouble.garbage), self.trouble.garbage))
        elif self.trouble.cut_inside_event:
            line = json.dumps({"type": what, "object": item}).encode()
            half = line[: len(line) // 2]
            writer.write(b"%x\r\n%s\r\n" % (len(half), half))
            await writer.drain()
            writer.transport.abort()
            raise ConnectionResetError
        else:
            _chunk(writer, {"type": what, "object": item})
        await writer.drain()


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _selected(query: dict[str, str]) -> str:
    return query.get("fieldSelector", "").removeprefix("metadata.name=")


def _send(
    writer: asyncio.StreamWriter, code: int, body: bytes, retry_after: int | None = None
) -> None:
    more = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    writer.write(
        f"HTTP/1.1 {code} .\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def _chunk(writer: asyncio.StreamWriter, tree: dict[str, Any]) -> None:
    line = json.dumps(tree).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(line), line))


@contextlib.asynccontextmanager
async def standing_in(**options: Any) -> AsyncIterator[StandInApi]:
    """A started server, stopped at the end."""
    server = StandInApi(**options)
    await server.start()
    try:
        yield server
    finally:
        server.cut()
        if server._server is not None:
            await server.stop()
