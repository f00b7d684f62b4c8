"""The plain registry, told what to do: Bearer tokens, and ways to misbehave."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from tests.support.plain_registry import SERVICE, PlainRegistry, refusal
from tests.support.registry_http import Request, Response

Auth = Literal["none", "basic", "bearer"]
Predicate = Callable[[Request], bool]

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


class ScriptedRegistry(PlainRegistry):
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
        super().__init__(host, port, users=None if auth == "none" else users or {}, tls=tls)
        self.faults = Faults()
        self.connections = 0
        self.realm = realm
        self.token_lifetime_s = token_lifetime_s
        self.identity_tokens: dict[str, str] = {}
        """Refresh tokens taken at POST /token, token → user."""
        self._auth = auth
        self._latency_s = latency_s
        self._anonymous_tokens = anonymous_tokens
        self._issued: dict[str, _Issued] = {}

    def revoke_tokens(self) -> None:
        """Forget every token that was issued."""
        self._issued.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super()._serve(reader, writer)

    async def _reply(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if self.faults.hang is not None and self.faults.hang(request):
            await asyncio.Event().wait()
        if self.faults.drop is not None and self.faults.drop(request):
            return False
        delay_s = self.faults.delay_s(request) if self.faults.delay_s is not None else 0
        await asyncio.sleep(self._latency_s + delay_s)
        return await super()._reply(request, writer) and not self.faults.close_idle

    async def _send(self, request: Request, answer: bytes, writer: asyncio.StreamWriter) -> None:
        body = answer.find(b"\r\n\r\n") + 4
        if self.faults.stall is not None and self.faults.stall(request):
            writer.write(answer[: (body + len(answer) + 1) // 2])
            await writer.drain()
            await asyncio.Event().wait()
        if not self.faults.trickle_s or "/blobs/" not in request.path:
            await super()._send(request, answer, writer)
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
        return super()._user(request)

    def _answer(self, request: Request) -> Response:
        for holds, response in self.faults.respond:
            if holds(request):
                return response
        if self._auth == "bearer" and request.path == _TOKEN_PATH:
            return self._token(request)
        return super()._answer(request)

    def _content(self, request: Request, repository: str) -> Response:
        answer = super()._content(request, repository)
        if "/manifests/" not in request.path:
            return answer
        if request.method == "HEAD" and self.faults.head_status:
            return Response(self.faults.head_status)
        headers = dict(answer.headers)
        if self.faults.wrong_digest and "Docker-Content-Digest" in headers:
            headers["Docker-Content-Digest"] = self.faults.wrong_digest
        if self.faults.no_digest:
            headers.pop("Docker-Content-Digest", None)
        return replace(answer, headers=headers)

    def _blob(self, digest: str) -> Response:
        if digest in self.faults.missing_blobs:
            return refusal(404, "BLOB_UNKNOWN")
        return super()._blob(digest)

    def _admits(self, request: Request, repository: str) -> bool:
        if self._auth != "bearer":
            return super()._admits(request, repository)
        issued = self._issued.get(request.auth_value)
        if (
            request.auth_scheme != "bearer"
            or issued is None
            or time.monotonic() >= issued.expires_at
        ):
            return False
        return not repository or issued.scope == f"repository:{repository}:pull"

    def _challenge(self, repository: str) -> str:
        """As the distribution project's registry has it."""
        if self._auth != "bearer":
            return super()._challenge(repository)
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
