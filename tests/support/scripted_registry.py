"""A small container registry on asyncio, told what to do: Bearer tokens, and ways to misbehave.

It serves what a pull needs (distribution-spec: `/v2/`, manifests, blobs), and remembers every
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.registry_http import HEAD_LIMIT_BYTES, Request, Response, read_request
from tests.support.registry_images import ImageShelf

Auth = Literal["none", "basic", "bearer"]
Predicate = Callable[[Request], bool]

SERVICE = "demo-registry"
_TOKEN_PATH = "/token"


@dataclass(slots=True)
class Faults:
    """Ways to misbehave. Each may be changed while the registry runs."""

    respond: list[tuple[Predicate, Response]] = field(default_factory=list)
    """The first predicate that holds decides the answer, before any authentication."""
    hang: Predicate | None = None
    """Requests that are taken and never answered."""
    drop: Predicate | None = None
    """Requests that are taken and then the connection is closed, unanswered."""
    stall: Predicate | None = None
    """Requests whose answer stands still for ever after half of its body."""
    trickle_s: float = 0.0
    """A blob comes in ten parts with so many seconds before each."""
    delay_s: Callable[[Request], float] | None = None
    head_status: int = 0
    """Status for every HEAD of a manifest; 0: answer it."""
    missing_blobs: set[str] = field(default_factory=set)
    wrong_digest: str = ""
    """What Docker-Content-Digest says instead of the truth."""
    no_digest: bool = False
    """Leave Docker-Content-Digest out."""
    close_idle: bool = False
    """Close the connection after each answer without having said so."""


@dataclass(frozen=True, slots=True)
class _Issued:
    """A token that was handed out."""

    user: str
    scope: str
    expires_at: float


def parameters(text: str) -> dict[str, str]:
    """The parameters of a query or a form; of several with one name, the first."""
    return {key: values[0] for key, values in parse_qs(text).items()}


class ScriptedRegistry:
    """One registry on one port. `users` are name → password; None: nobody can log in.

    Bearer mode: tokens are issued at `/token` of this registry unless `realm` says otherwise, to
    known users and, when `anonymous_tokens`, to callers without credentials, too.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        users: Mapping[str, str] | None = None,
        auth: Auth = "none",
        tls: ssl.SSLContext | None = None,
        latency_s: float = 0,
        realm: str = "",
        token_lifetime_s: float = 300,
        anonymous_tokens: bool = False,
    ) -> None:
        self.images = ImageShelf()
        self.requests: list[Request] = []
        self.faults = Faults()
        self.connections = 0
        self.realm = realm
        self.token_lifetime_s = token_lifetime_s
        self.identity_tokens: dict[str, str] = {}
        """Refresh tokens taken at POST /token, token → user."""
        self._bind = (host, port)
        self._users = users or {}
        self._tls = tls
        self._auth = auth
        self._latency_s = latency_s
        self._anonymous_tokens = anonymous_tokens
        self._issued: dict[str, _Issued] = {}
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

    def revoke_tokens(self) -> None:
        """Forget every token that was issued."""
        self._issued.clear()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        self.connections += 1
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
        if self.faults.hang is not None and self.faults.hang(request):
            await asyncio.Event().wait()
        if self.faults.drop is not None and self.faults.drop(request):
            return False
        delay_s = self.faults.delay_s(request) if self.faults.delay_s is not None else 0
        await asyncio.sleep(self._latency_s + delay_s)
        close = request.headers.get("connection", "").lower() == "close"
        answer = self._answer(request).encode(head=request.method == "HEAD", close=close)
        await self._send(request, answer, writer)
        return not close and not self.faults.close_idle

    async def _send(self, request: Request, answer: bytes, writer: asyncio.StreamWriter) -> None:
        body = answer.find(b"\r\n\r\n") + 4
        if self.faults.stall is not None and self.faults.stall(request):
            writer.write(answer[: (body + len(answer) + 1) // 2])
            await writer.drain()
            await asyncio.Event().wait()
        if not self.faults.trickle_s or "/blobs/" not in request.path:
            writer.write(answer)
            await writer.drain()
            return
        writer.write(answer[:body])
        step = max((len(answer) - body) // 10, 1)
        for start in range(body, len(answer), step):
            await asyncio.sleep(self.faults.trickle_s)
            writer.write(answer[start : start + step])
        await writer.drain()

    def _user(self, request: Request) -> str:
        issued = self._issued.get(request.auth_value)
        if issued is not None and request.auth_scheme == "bearer":
            return issued.user
        return "" if request.basic is None else request.basic[0]

    def _answer(self, request: Request) -> Response:
        for holds, response in self.faults.respond:
            if holds(request):
                return response
        if self._auth == "bearer" and request.path == _TOKEN_PATH:
            return self._token(request)
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
        if kind != "manifests":
            return Response(404)
        if request.method == "HEAD" and self.faults.head_status:
            return Response(self.faults.head_status)
        return self._manifest(repository, reference)

    def _blob(self, digest: str) -> Response:
        blob = self.images.blobs.get(digest)
        if blob is None or digest in self.faults.missing_blobs:
            return refusal(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return Response(200, headers, blob)

    def _manifest(self, repository: str, reference: str) -> Response:
        found = self.images.find(repository, reference)
        if found is None:
            return refusal(404, "MANIFEST_UNKNOWN")
        digest, manifest = found
        headers = {"Content-Type": manifest.media_type}
        if not self.faults.no_digest:
            headers["Docker-Content-Digest"] = self.faults.wrong_digest or digest
        return Response(200, headers, manifest.content)

    def _admits(self, request: Request, repository: str) -> bool:
        if self._auth != "bearer":
            return self._auth == "none" or self._knows(request.basic)
        issued = self._issued.get(request.auth_value)
        if (
            request.auth_scheme != "bearer"
            or issued is None
            or time.monotonic() >= issued.expires_at
        ):
            return False
        return not repository or issued.scope == f"repository:{repository}:pull"

    def _knows(self, login: tuple[str, str] | None) -> bool:
        if login is None or login[0] not in self._users:
            return False
        return secrets.compare_digest(self._users[login[0]].encode(), login[1].encode())

    def _challenge(self, repository: str) -> str:
        """As the distribution project's registry has it."""
        if self._auth != "bearer":
            return f'Basic realm="{SERVICE}"'
        realm = self.realm or f"{self.address}{_TOKEN_PATH}"
        scope = f',scope="repository:{repository}:pull"' if repository else ""
        return f'Bearer realm="{realm}",service="{SERVICE}"{scope}'

    def _token(self, request: Request) -> Response:
        """Issue a token (GET with Basic, POST with a refresh token)."""
        posted = request.method == "POST"
        asked = parameters(request.body.decode() if posted else urlsplit(request.target).query)
        if posted:
            user = self.identity_tokens.get(asked.get("refresh_token", ""))
        elif request.basic is None:
            user = "" if self._anonymous_tokens else None
        else:
            user = request.basic[0] if self._knows(request.basic) else None
        if user is None:
            return refusal(401, "UNAUTHORIZED")
        token = secrets.token_urlsafe(24)
        expires_at = time.monotonic() + self.token_lifetime_s
        self._issued[token] = _Issued(user, asked.get("scope", ""), expires_at)
        name = "access_token" if posted else "token"
        body = json.dumps({name: token, "expires_in": self.token_lifetime_s}).encode()
        return Response(200, {"Content-Type": "application/json"}, body)


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
