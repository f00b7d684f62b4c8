"""A small container registry on asyncio and the standard library.

It serves what a pull needs (distribution-spec: `/v2/`, manifests, blobs), to everybody or with
Basic authentication, and remembers every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Self

from tests.support.registry_http import HEAD_LIMIT_BYTES, Request, Response, read_request
from tests.support.registry_images import ImageShelf

SERVICE = "demo-registry"


class PlainRegistry:
    """One registry on one port. `users` are name → password; None: nobody has to log in."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        users: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.images = ImageShelf()
        self.requests: list[Request] = []
        self._bind = (host, port)
        self._users = users
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self.stop()

    async def start(self) -> None:
        """Listen; a second start after a stop takes the same port."""
        self._server = await asyncio.start_server(
            self._begin, *self._bind, ssl=self._tls, limit=HEAD_LIMIT_BYTES
        )
        self._bind = (self._bind[0], self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening)
        for _ in range(3):  # what has just been accepted is begun: asyncio loses it at a close
            await asyncio.sleep(0)
        self._server.close()
        for task, writer in self._serving.items():
            writer.transport.abort()  # what hangs, or has not begun, must not hold it up
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    @property
    def host(self) -> str:
        """`host:port` as it stands in image names."""
        host, port = self._bind
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def address(self) -> str:
        """The URL of the registry, without a path."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def add_image(self, repository: str, tag: str, content: bytes = b"demo\n") -> str:
        """Put a one-layer image there and return its digest."""
        return self.images.add_image(repository, tag, content)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        try:
            while (request := await read_request(reader)) is not None:
                if not await self._serve_one(request, writer):
                    break
        except ValueError:
            writer.write(Response(400).encode(head=False, close=True))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side is gone: nobody is left to tell
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _serve_one(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False: the connection is to be closed."""
        request = replace(request, user=self._user(request))
        self.requests.append(request)
        return await self._reply(request, writer)

    async def _reply(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        close = request.headers.get("connection", "").lower() == "close"
        answer = self._answer(request).encode(head=request.method == "HEAD", close=close)
        await self._send(request, answer, writer)
        return not close

    async def _send(self, _: Request, answer: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    def _user(self, request: Request) -> str:
        return "" if request.basic is None else request.basic[0]

    def _answer(self, request: Request) -> Response:
        return self._api(request) if request.path.startswith("/v2/") else Response(404)

    def _api(self, request: Request) -> Response:
        """Answer under `/v2/`."""
        repository = repository_of(request.path)
        if not self._admits(request, repository):
            return refusal(401, "UNAUTHORIZED", {"WWW-Authenticate": self._challenge(repository)})
        if request.path == "/v2/":
            return Response(200, {"Content-Type": "application/json"}, b"{}")
        if request.method not in ("GET", "HEAD"):
            return refusal(405, "UNSUPPORTED")
        return self._content(request, repository)

    def _content(self, request: Request, repository: str) -> Response:
        """Answer for `/v2/<repository>/manifests|blobs/<reference>`."""
        kind, _, reference = request.path.removeprefix(f"/v2/{repository}/").partition("/")
        if kind == "blobs":
            return self._blob(reference)
        return self._manifest(repository, reference) if kind == "manifests" else Response(404)

    def _blob(self, digest: str) -> Response:
        blob = self.images.blobs.get(digest)
        if blob is None:
            return refusal(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return Response(200, headers, blob)

    def _manifest(self, repository: str, reference: str) -> Response:
        found = self.images.find(repository, reference)
        if found is None:
            return refusal(404, "MANIFEST_UNKNOWN")
        digest, manifest = found
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": digest}
        return Response(200, headers, manifest.content)

    def _admits(self, request: Request, _: str) -> bool:
        return self._users is None or self._knows(request.basic)

    def _knows(self, login: tuple[str, str] | None) -> bool:
        users = self._users or {}
        if login is None or login[0] not in users:
            return False
        return secrets.compare_digest(users[login[0]].encode(), login[1].encode())

    def _challenge(self, _: str) -> str:
        """What WWW-Authenticate says to whoever asks for the repository."""
        return f'Basic realm="{SERVICE}"'


def repository_of(path: str) -> str:
    """Return the repository of `/v2/<repository>/manifests/…` or `…/blobs/…`, "" for `/v2/`."""
    for kind in ("/manifests/", "/blobs/"):
        head, found, _ = path.rpartition(kind)
        if found:
            return head.removeprefix("/v2/")
    return ""


def refusal(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the distribution specification words it."""
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]})
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, body.encode())
