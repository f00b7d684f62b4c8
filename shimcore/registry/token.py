"""Bearer tokens: where a token may be asked for, the asking, and keeping it until it expires.

Sources: the distribution project's token specification (GET) and its OAuth2 companion (POST).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import httpx

from shimcore.registry.challenge import Challenge
from shimcore.registry.errors import (
    Fault,
    UnauthorizedError,
    UnreachableError,
    error_codes,
    read_json,
)
from shimcore.registry.http.transport import Answer, Ask, Transport
from shimcore.registry.http.url import Origin, read_url

if TYPE_CHECKING:
    from shimcore.config import Credentials

TOKEN_LIMIT_BYTES = 64 * 1024  # the largest seen have 16 KiB: a list of groups in them
ANSWER_LIMIT_BYTES = 160 * 1024  # some send the token twice, and one to refresh it with
DEFAULT_LIFETIME_S = 60.0  # token specification: what a missing expires_in means
MAX_SKEW_S = 10.0  # a token is given up this much, or a tenth of its life, before it expires
# One token for each repository of a registry; most have 1 to 3 KiB, with its key.
CACHE_LIMIT = 2048
CACHE_LIMIT_BYTES = 2 * 1024 * 1024
CLIENT_ID = "image-cri-shim"
TokenKey = tuple[str, str, str]
"""Realm, service and scope."""
_TOKEN_TEXT = re.compile(r"[\x21-\x7e]+")  # what can stand in a header field


class Realm(NamedTuple):
    """A token endpoint, and the service that a token from it is for.

    `withheld` says why it gets no credentials, "" when it may have them.
    """

    url: str
    origin: Origin
    service: str
    withheld: str


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token that is good for `ttl_s` seconds after it was asked for."""

    value: str = field(repr=False)
    ttl_s: float


def token_key(challenge: Challenge, scope: str) -> TokenKey:
    """What a token is kept by."""
    return challenge.get("realm"), challenge.get("service"), scope


def kept_bytes(key: TokenKey, token: Token) -> int:
    """What an entry takes, near enough: its texts, and 512 bytes of objects around them."""
    return len(token.value) + sum(map(len, key)) + 512


def check_realm(registry: str, home: Origin, challenge: Challenge) -> Realm:
    """Read a challenge's realm and decide whether a password may be sent there.

    It may over https; and over plain http only to the registry's own host, when that registry is
    itself plain http and has the password on the same wire anyway. Raises UnauthorizedError.
    """
    try:
        url = read_url(challenge.get("realm"))
    except ValueError as error:
        raise UnauthorizedError(registry, f"names a token realm that is {error}") from error
    origin, withheld = Origin.of(url), ""
    if origin.scheme != "https" and (home.scheme != "http" or origin.host != home.host):
        where = "on another host" if origin.host != home.host else "while the registry speaks https"
        withheld = f"the login was not sent to the token realm {origin}, plain http {where}"
    return Realm(str(url), origin, challenge.get("service"), withheld)


async def fetch_token(
    registry: str, transport: Transport, realm: Realm, credentials: Credentials | None, wanted: Ask
) -> Token:
    """A fresh token, as `wanted` needs it. Raises UnauthorizedError, UnreachableError."""
    usable = credentials if not realm.withheld else None
    if usable is not None and usable.identity_token:
        ask = _refresh(realm, usable.identity_token, wanted)
    else:
        ask = _get(realm, usable, wanted)
    answer = await transport.send(ask)
    if answer.status != httpx.codes.OK:
        raise _refusal(registry, answer, realm, anonymous=credentials is None)
    return _read(registry, answer)


def _refusal(
    registry: str, answer: Answer, realm: Realm, *, anonymous: bool
) -> UnauthorizedError | UnreachableError:
    codes = error_codes(answer.body)
    status = f"{answer.status} ({codes})" if codes else str(answer.status)
    if answer.status == httpx.codes.TOO_MANY_REQUESTS or answer.status >= 500:
        reason = f"the token realm {realm.origin} answered {status}"
        return UnreachableError(registry, reason, Fault.ANSWERED)
    reason = f"the token realm {realm.origin} refused with {status}"
    if anonymous:
        reason += ", and no login is configured"
    elif realm.withheld:
        reason = realm.withheld
    certain = not (anonymous or realm.withheld)
    return UnauthorizedError(registry, reason, certain=certain)


def _read(registry: str, answer: Answer) -> Token:
    """`{"token" or "access_token": …, "expires_in": seconds}`."""
    try:
        fields = read_json(answer.body)
    except ValueError:
        fields = None
    told = fields if isinstance(fields, dict) else {}
    value = told.get("token") or told.get("access_token")
    if not isinstance(value, str) or not _TOKEN_TEXT.fullmatch(value):
        reason = f"the token realm {answer.origin} answered without a usable token"
        raise UnreachableError(registry, reason, Fault.ANSWERED)
    if len(value) > TOKEN_LIMIT_BYTES:
        reason = f"the token realm {answer.origin} sent a token of {len(value) // 1024} KiB"
        limit = f"more than {TOKEN_LIMIT_BYTES // 1024} KiB are not taken"
        raise UnreachableError(registry, f"{reason}; {limit}", Fault.ANSWERED)
    lifetime_s = _lifetime(told.get("expires_in"))
    return Token(value, lifetime_s - min(MAX_SKEW_S, lifetime_s / 10))


def _lifetime(expires_in: object) -> float:
    """Return seconds; nothing, 0 and nonsense mean the specification's default."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        return DEFAULT_LIFETIME_S
    return float(expires_in) if 0 < expires_in < 1e9 else DEFAULT_LIFETIME_S


def _get(realm: Realm, credentials: Credentials | None, wanted: Ask) -> Ask:
    query = {"service": realm.service, "scope": wanted.scope}
    url = httpx.URL(realm.url).copy_merge_params({k: v for k, v in query.items() if v})
    authorization = basic(credentials) if credentials is not None else ""
    return _ask(
        "GET", str(url), wanted.deadline, authorization=authorization, stay=bool(authorization)
    )


def _refresh(realm: Realm, identity_token: str, wanted: Ask) -> Ask:
    form = {
        "grant_type": "refresh_token",
        "service": realm.service,
        "client_id": CLIENT_ID,
        "scope": wanted.scope,
        "refresh_token": identity_token,
    }
    given = {key: value for key, value in form.items() if value}
    return _ask("POST", realm.url, wanted.deadline, form=given, stay=True)


_ask = partial(Ask, body_limit_bytes=ANSWER_LIMIT_BYTES, accept="application/json")


def basic(credentials: Credentials) -> str:
    """Return `Basic …` in UTF-8 (RFC 7617 §2.1), or "" without a username."""
    if not credentials.username:
        return ""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")
