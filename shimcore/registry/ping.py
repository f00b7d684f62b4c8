"""Is this a registry, does its TLS hold, is the login accepted? (`check-registry`)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from shimcore.registry.answers import PingReport, TlsReport
from shimcore.registry.auth import Authenticator, choose_challenge
from shimcore.registry.challenge import Challenge
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError, UntrustedError
from shimcore.registry.http.proxy import ProxyRules
from shimcore.registry.http.tls import make_context
from shimcore.registry.http.transport import Answer, Ask, Transport
from shimcore.registry.http.url import Origin
from shimcore.registry.manifest import page_reason, status_reason
from shimcore.registry.token import check_realm

if TYPE_CHECKING:
    from shimcore.config import Registry

_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_BODY_LIMIT_BYTES = 64 * 1024
_NOT_TRIED = "the login was not tried: this registry asks for none before an image"
_PUBLIC_ONLY = "no login is configured: public images only"
UNVERIFIED_LOOK_S = 2.0  # for showing a certificate that did not hold; beside the ping's own bound


class Pinger:
    """One ping. `failure` tells afterwards why it is not well, None if it is."""

    def __init__(
        self,
        registry: Registry,
        url: str,
        transport: Transport,
        rules: ProxyRules,
        clock: Callable[[], float],
    ) -> None:
        self.failure: UnreachableError | UnauthorizedError | None = None
        self._registry = registry
        self._home = transport.origin(url)
        self._url = f"{url}/v2/"
        self._transport = transport
        self._rules = rules
        self._clock = clock
        # A login of its own: what is reported must have been tried now, not remembered.
        self._authenticator = Authenticator(
            registry.host, self._home, registry.credentials, transport, clock
        )

    async def ping(self, deadline: float) -> PingReport:
        """Return the report; `deadline` is a time of the loop's clock."""
        started = self._clock()
        ask = Ask("GET", self._url, deadline, body_limit_bytes=_BODY_LIMIT_BYTES, report_tls=True)
        try:
            answer = await self._transport.send(ask)
        except UnreachableError as error:
            report = replace(self._failed(error), reachable=error.fault is Fault.ANSWERED)
        else:
            report = replace(await self._judge(ask, answer), tls=answer.tls)
        report = replace(report, elapsed_s=self._clock() - started)
        if isinstance(self.failure, UntrustedError):
            tls = await self._look_unverified(ask)
            if tls is not None:
                # Behind what was reached it is another's that did not hold: its token endpoint's.
                dates = "" if report.reachable else self.failure.dates
                own = tls.days_left < 0 or tls.begins_in_days
                authority = "" if own else dates
                tls = replace(tls, wrong_name=self.failure.wrong_name, authority=authority)
                report = replace(
                    report, detail=_untimely(self._home, tls) if dates else report.detail
                )
            report = replace(report, tls=tls, reachable=report.reachable or tls is not None)
        return report

    async def _judge(self, ask: Ask, answer: Answer) -> PingReport:
        """What the answer to a question without credentials says; logs in if it asks for that."""
        if answer.body and answer.is_page and (answer.status == _OK or answer.proxy):
            return self._wrong(page_reason(answer))
        if answer.status == _OK:
            moved = answer.origin != self._home
            detail = f"answers from {answer.origin}" * moved
            if self._registry.credentials is not None:
                detail = f"{detail}; {_NOT_TRIED}".removeprefix("; ")
            return _report(True, "none", "not needed", detail)
        if answer.status == _NOT_FOUND:
            return self._wrong(f"{answer.origin} has no /v2/ (404): not a container registry")
        if answer.status != _UNAUTHORIZED:
            return self._wrong(status_reason(answer))
        try:
            challenge = choose_challenge(self._registry.host, answer)
        except (UnauthorizedError, UnreachableError) as error:
            return self._failed(error)
        return await self._log_in(ask, challenge)

    async def _log_in(self, ask: Ask, challenge: Challenge) -> PingReport:
        scheme, configured = challenge.scheme, self._registry.credentials is not None
        try:
            if configured and (withheld := self._withheld(challenge)):
                return self._failed(UnauthorizedError(self._registry.host, withheld), scheme)
            answer = await self._authenticator.send(ask)
        except UnreachableError as error:
            return self._failed(error, scheme)
        except UnauthorizedError as error:
            return self._refused(scheme, error)
        if answer.status != _OK:
            return self._wrong(status_reason(answer), scheme)
        if not configured:
            return _report(True, scheme, "not configured", _PUBLIC_ONLY)
        return _report(True, scheme, "accepted")

    def _withheld(self, challenge: Challenge) -> str:
        """Return why the login will not be sent to the challenge's realm, "" when it will."""
        if challenge.scheme != "bearer":
            return ""
        return check_realm(self._registry.host, self._home, challenge).withheld

    def _refused(self, scheme: str, error: UnauthorizedError) -> PingReport:
        if scheme == "bearer" and self._registry.credentials is None:
            return _report(True, scheme, "not configured", _PUBLIC_ONLY)
        if self._registry.credentials is not None:
            # Nothing but the login was asked for: by ECR with 403 once that has expired.
            self.failure = UnauthorizedError(error.registry, error.reason, certain=True)
            return _report(False, scheme, "refused", error.reason)
        self.failure = error
        return _report(False, scheme, "not configured", error.reason)

    async def _look_unverified(self, ask: Ask) -> TlsReport | None:
        """Fetch the certificate that did not hold, over a connection that checks nothing.

        The request on it carries no credentials, and its answer is not believed.
        """
        context = make_context(None, insecure=True)
        transport = Transport(self._registry.host, context, self._rules)
        deadline = asyncio.get_running_loop().time() + UNVERIFIED_LOOK_S
        try:
            answer = await transport.send(replace(ask, deadline=deadline))
        except (UnreachableError, UnauthorizedError):
            return None
        finally:
            await transport.aclose()
        return answer.tls

    def _failed(
        self, error: UnreachableError | UnauthorizedError, scheme: str = "unknown"
    ) -> PingReport:
        self.failure = error
        return _report(False, scheme, "unknown", error.reason)

    def _wrong(self, reason: str, scheme: str = "unknown") -> PingReport:
        error = UnreachableError(self._registry.host, reason, Fault.ANSWERED)
        return self._failed(error, scheme)


def _untimely(home: Origin, tls: TlsReport) -> str:
    """What a certificate is that does not hold today, or one above it."""
    if tls.authority == "expired":
        return f"an authority above the certificate of {home} has expired; renew that"
    if tls.authority:
        above = f"an authority above the certificate of {home}"
        return f"{above} is not yet valid; is this node's clock right?"
    if tls.days_left < 0:
        return f"the certificate of {home} has expired; renew it"
    return f"the certificate of {home} is not yet valid; is this node's clock right?"


def _report(ok: bool, scheme: str, login: str, detail: str = "") -> PingReport:
    """What was learned of a registry that answered."""
    return PingReport(True, ok, scheme, login, detail)
