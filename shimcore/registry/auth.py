"""Logging in to one registry: answers its challenges and remembers which one it makes.

The first question goes without credentials; its 401 says how to authenticate, and once that was
taken questions are authenticated from the start. Credentials answer only a challenge that came from
the registry's own origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shimcore.cache import ExpiringCache
from shimcore.errors import RegistryError
from shimcore.registry.challenge import Challenge, ChallengeSyntaxError, parse_challenges
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError, one_line
from shimcore.registry.http.transport import Answer, Ask, Transport
from shimcore.registry.http.url import Origin
from shimcore.registry.token import (
    CACHE_LIMIT,
    CACHE_LIMIT_BYTES,
    TokenKey,
    basic,
    check_realm,
    fetch_token,
    kept_bytes,
    token_key,
)

if TYPE_CHECKING:
    from shimcore.config import Credentials

_UNAUTHORIZED, _FORBIDDEN = 401, 403
_NO_LOGIN = "asks for a login, and none is configured (auth, passwordFile or dockerConfig)"


@dataclass(frozen=True, slots=True)
class _Grant:
    """An Authorization value; `fresh`: it was made for this question, not taken from the cache."""

    challenge: Challenge
    value: str = field(repr=False)
    fresh: bool
    withheld: str = ""


class Authenticator:
    """Sends requests to one registry with whatever login it asks for."""

    def __init__(
        self,
        registry: str,
        home: Origin,
        credentials: Credentials | None,
        transport: Transport,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._home = home
        self._credentials = credentials
        self._transport = transport
        self._tokens: ExpiringCache[TokenKey, str] = ExpiringCache(
            CACHE_LIMIT, clock, CACHE_LIMIT_BYTES
        )
        self._clock = clock
        self._challenge: Challenge | None = None

    async def send(self, ask: Ask) -> Answer:
        """Return the registry's answer; 401 and 403 are raised as UnauthorizedError.

        Raises UnreachableError, too.
        """
        grant = await self._remembered(ask)
        answer = await self._send_with(ask, grant)
        if answer.status == _UNAUTHORIZED:
            grant, answer = await self._log_in(ask, grant, answer)
        if grant is not None and answer.status != _UNAUTHORIZED:
            self._challenge = _needed(grant.challenge)
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise self._refusal(answer, grant)
        return answer

    async def _log_in(
        self, ask: Ask, refused: _Grant | None, answer: Answer
    ) -> tuple[_Grant | None, Answer]:
        """Answer the challenge of a 401, unless that was just done; what then came, and for what.

        Harbor asks whoever has sent a token, and may not read, for a password, and at times for
        nothing: its 401 is about the repository, and the token that it gave is what was refused.
        """
        if refused is not None:
            self._tokens.drop(token_key(refused.challenge, ask.scope))
        silent = not answer.headers.get("WWW-Authenticate")
        challenge = refused.challenge if refused is not None and silent else self._read(answer)
        same = refused is not None and _needed(refused.challenge) == _needed(challenge)
        if refused is not None and refused.fresh and same:
            return refused, answer
        grant = await self._grant(challenge, ask)
        answer = await self._send_with(ask, grant)
        by_token = refused is not None and refused.challenge.scheme == "bearer"
        if by_token and grant.challenge.scheme == "basic" and answer.status == _UNAUTHORIZED:
            return refused, answer
        return grant, answer

    async def _remembered(self, ask: Ask) -> _Grant | None:
        """Return what answers the challenge made before, if any.

        If that cannot be had any more, the challenge is forgotten: the registry may by now ask
        for something else. A token realm's fault may be with this scope alone: it is asked without.
        """
        if self._challenge is None:
            return None
        try:
            return await self._grant(self._challenge, ask)
        except RegistryError as error:
            self._challenge = None
            if isinstance(error, UnreachableError) and error.fault is Fault.ANSWERED:
                return None
            raise

    async def _send_with(self, ask: Ask, grant: _Grant | None) -> Answer:
        if grant is None:
            return await self._transport.send(ask)
        return await self._transport.send(replace(ask, authorization=grant.value))

    def _read(self, answer: Answer) -> Challenge:
        """Choose the challenge to answer: Bearer, else Basic."""
        if answer.origin != self._home:
            raise UnauthorizedError(
                self._registry,
                f"redirects to {answer.origin}, which asks for a login; credentials do not follow "
                "a redirect to another host (is that the address to configure?)",
            )
        return choose_challenge(self._registry, answer)

    async def _grant(self, challenge: Challenge, ask: Ask) -> _Grant:
        """Return the Authorization that answers a challenge."""
        if challenge.scheme == "basic":
            return _Grant(challenge, self._basic(), fresh=True)
        return await self._bearer(challenge, ask)

    async def _bearer(self, challenge: Challenge, ask: Ask) -> _Grant:
        realm = check_realm(self._registry, self._home, challenge)
        withheld = realm.withheld if self._credentials is not None else ""
        key = token_key(challenge, ask.scope)
        cached = self._tokens.get(key)
        if cached is not None:
            return _Grant(challenge, f"Bearer {cached}", fresh=False, withheld=withheld)
        asked_at = self._clock()
        token = await fetch_token(self._registry, self._transport, realm, self._credentials, ask)
        ttl_s = token.ttl_s - (self._clock() - asked_at)
        self._tokens.put(key, token.value, ttl_s, kept_bytes(key, token))
        return _Grant(challenge, f"Bearer {token.value}", fresh=True, withheld=withheld)

    def _basic(self) -> str:
        if self._credentials is None:
            raise UnauthorizedError(self._registry, _NO_LOGIN)
        value = basic(self._credentials)
        if not value:
            reason = "asks for a user name and password, and only an identity token is configured"
            raise UnauthorizedError(self._registry, reason)
        return value

    def _refusal(self, answer: Answer, grant: _Grant | None) -> UnauthorizedError:
        if grant is not None and grant.withheld:
            reason = grant.withheld
        elif answer.origin != self._home:
            reason = f"redirects to {answer.origin}, which answers {answer.status}"
        elif self._credentials is None:
            reason = f"answers {answer.status}, and no login is configured"
        elif answer.status == _FORBIDDEN:
            reason = "the login may not read this, or has expired (403)"
        elif grant is not None and grant.challenge.scheme == "bearer":
            reason = "the login may not read this, or there is no such repository (401)"
        else:
            reason = "the login was refused (401)"
        certain = (
            self._credentials is not None
            and answer.status == _UNAUTHORIZED
            and answer.origin == self._home
            and grant is not None
            and grant.challenge.scheme == "basic"
        )
        return UnauthorizedError(self._registry, reason + answer.through, certain=certain)


def _needed(challenge: Challenge) -> Challenge:
    """Return what answering a challenge takes; scope and error, which differ all the time, not."""
    kept = ((name, challenge.get(name)) for name in ("realm", "service"))
    return Challenge(challenge.scheme, tuple((name, value) for name, value in kept if value))


def choose_challenge(registry: str, answer: Answer) -> Challenge:
    """Return the challenge of a 401 to answer: Bearer with a realm, else Basic.

    Raises UnauthorizedError when there is none, UnreachableError when it cannot be read.
    """
    try:
        challenges = parse_challenges(answer.headers.get_list("WWW-Authenticate"))
    except ChallengeSyntaxError as error:
        raise UnreachableError(registry, f"answered 401 with {error}", Fault.ANSWERED) from error
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.get("realm"):
            return challenge
    for challenge in challenges:
        if challenge.scheme == "basic":
            return challenge
    asked = one_line(", ".join(challenge.scheme for challenge in challenges), 60)
    reason = (
        f"asks for {asked}; Basic and Bearer are supported"
        if challenges
        else "answered 401 without saying how to log in (no WWW-Authenticate)"
    )
    raise UnauthorizedError(registry, reason)
