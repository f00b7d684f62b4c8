"""The API server, asked as a pod asks it: by the ServiceAccount's token, JSON in and out.

Only what the roll-out needs; the cluster's part of the configuration has a client of its own,
which asks as the node does and watches.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from shimcore import __version__
from shimcore.fleet.errors import (
    ApiAwayError,
    ApiRefusedError,
    ConflictError,
    FleetError,
    MissingError,
)
from shimcore.tls import client_context

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_S = 20.0
LIMIT_BYTES = 4 * 1024 * 1024
"""Longest answer: an object has at most 1.5 MiB (etcd's limit), a page of 64 nodes about 2."""
TRIES = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_TEXT_LIMIT = 300
_TOKEN_LIMIT = 64 * 1024
_AGAIN = frozenset({429, 500, 502, 503, 504})
_REFUSALS: Mapping[int, type[ApiRefusedError]] = {404: MissingError, 409: ConflictError}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API server is, and how a pod shows who it is."""

    url: str
    token_file: Path
    ca_file: Path | None

    @classmethod
    def of_pod(cls, account: Path = ACCOUNT) -> Place:
        """As kubelet tells a pod. Raises FleetError outside of one."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise FleetError(
                "KUBERNETES_SERVICE_HOST is not set: this command runs in a pod of the chart"
            )
        host = f"[{host}]" if ":" in host else host
        return cls(f"https://{host}:{port}", account / "token", account / "ca.crt")


class Api:
    """Asks one API server. All methods raise ApiAwayError and ApiRefusedError alone."""

    def __init__(self, place: Place, source: random.Random | None = None) -> None:
        self._place = place
        self._random = source or random.Random()  # noqa: S311 - it spreads load
        self._client = httpx.AsyncClient(
            base_url=place.url,
            verify=_trust(place),
            timeout=httpx.Timeout(10.0),
            trust_env=False,
            headers={"User-Agent": f"image-cri-shim/{__version__}", "Accept": "application/json"},
        )
        self.now = datetime.fromtimestamp(0, UTC)
        """The API server's clock, as its last answer had it (RFC 9110 §6.6.1, Date)."""

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = ""
    ) -> Object:
        """The object, or the list."""
        headers = {"Accept": accept} if accept else {}
        return await self._asked("GET", path, query=query, headers=headers)

    async def put(self, path: str, body: Object) -> Object:
        """The object as it is then. Raises ConflictError where it was changed meanwhile."""
        return await self._asked("PUT", path, body)

    async def post(self, path: str, body: Object) -> Object:
        """The object that was made."""
        return await self._asked("POST", path, body)

    async def merge(self, path: str, body: Object) -> Object:
        """The object after a merge patch (RFC 7396): a key with None goes away."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return await self._asked("PATCH", path, body, headers=headers)

    async def _asked(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer, after some tries. A PUT that was done unseen ends as a conflict."""
        content = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if content else {}
        more |= dict(headers or {})
        for number in range(1, TRIES + 1):
            try:
                return await self._once(method, path, content, query or {}, more)
            except _LaterError as error:
                if number == TRIES:
                    raise ApiAwayError(str(error)) from error
                await asyncio.sleep(self._wait_s(number, error.after_s))
        raise AssertionError("unreachable")

    def _wait_s(self, number: int, told_s: float) -> float:
        whole = min(_FIRST_WAIT_S * 2.0**number, _LONGEST_WAIT_S)
        return max(min(told_s, _LONGEST_WAIT_S), self._random.uniform(whole / 2, whole))

    async def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Object:
        login = {"Authorization": f"Bearer {self._token()}"}
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._client.stream(
                    method, path, content=content, params=query, headers={**headers, **login}
                ) as response,
            ):
                body = await _bounded(response)
        except TimeoutError as error:
            raise _LaterError(f"{self._place.url}: no answer within {ANSWER_S:.0f} s") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise _LaterError(f"{self._place.url}: {reason}") from error
        self._read_clock(response)
        return _answer(response, body)

    def _read_clock(self, response: httpx.Response) -> None:
        """Take the time over; an answer without one leaves the clock as it is."""
        try:
            told = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        self.now = told if told.tzinfo else told.replace(tzinfo=UTC)

    def _token(self) -> str:
        """Read anew each time: kubelet replaces it before it expires."""
        try:
            with self._place.token_file.open("rb") as file:
                return file.read(_TOKEN_LIMIT).decode("ascii").strip()
        except OSError as error:
            raise ApiAwayError(f"{self._place.token_file}: {error.strerror}") from error
        except UnicodeDecodeError:
            pass
        # Outside the handler: its error holds what should have been a token.
        raise ApiAwayError(f"{self._place.token_file}: not a token")


class _LaterError(FleetError):
    """What may well go away by itself."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def _trust(place: Place) -> ssl.SSLContext | bool:
    if place.ca_file is None:
        return place.url.startswith("https:")
    try:
        return client_context(place.ca_file.read_bytes().decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise ApiAwayError(f"{place.ca_file}: not a certificate") from error
    except OSError as error:
        raise ApiAwayError(f"{place.ca_file}: {error.strerror}") from error


async def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > LIMIT_BYTES:
            raise _LaterError("the API server's answer is too long")
    return bytes(content)


def _answer(response: httpx.Response, body: bytes) -> Object:
    status = response.status_code
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        tree = None
    if status in _AGAIN:
        wait = response.headers.get("Retry-After", "")
        after_s = float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0
        raise _LaterError(f"the API server answers {status}", after_s)
    if not response.is_success:
        raise _REFUSALS.get(status, ApiRefusedError)(status, _message(status, tree))
    if not isinstance(tree, dict):
        raise _LaterError("the API server's answer is no object")
    return tree


def _message(status: int, tree: object) -> str:
    said = tree.get("message") if isinstance(tree, dict) else None
    text = " ".join(str(said).split())[:_TEXT_LIMIT] if said else ""
    return (
        f"the API server answers {status}: {text}" if text else f"the API server answers {status}"
    )
