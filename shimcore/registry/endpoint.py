"""One registry as the client sees it: its connections, its login and its health."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from shimcore.errors import RegistryError
from shimcore.registry.answers import ManifestAnswer, PingReport
from shimcore.registry.auth import Authenticator
from shimcore.registry.condition import Condition
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError
from shimcore.registry.http.proxy import ProxyRules
from shimcore.registry.http.transport import Ask, Transport
from shimcore.registry.manifest import find_manifest, find_platforms, status_reason
from shimcore.registry.ping import Pinger

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shimcore.config import Registry
    from shimcore.reference import Reference

T = TypeVar("T")
_logger = logging.getLogger(__name__)

# How long a question waits for the trial that it set off or met: enough for a registry that came
# back to say so, and all that a dead one costs.
TRIAL_GRACE_S = 0.2

# A question that was given up with no more than this left of its time has had no answer.
GIVEN_UP_SHARE = 0.1
_SILENCE = "no answer in time"

_PING_LIMIT_BYTES = 64 * 1024


class Endpoint:
    """Asks one registry, unless it was just seen to be dead."""

    def __init__(
        self,
        registry: Registry,
        context: ssl.SSLContext,
        rules: ProxyRules,
        condition: Condition,
        *,
        probe_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._condition = condition
        self._breaker = condition.breaker
        self._registry = registry
        self._rules = rules
        self._timeout_s = probe_timeout_s
        self._clock = clock
        self._url = registry.address
        self._transport = Transport(registry.host, context, rules)
        home = self._transport.origin(self._url)
        self._authenticator = Authenticator(
            registry.host, home, registry.credentials, self._transport, clock
        )
        self._trial: asyncio.Task[None] | None = None

    async def find(self, image: Reference) -> ManifestAnswer:
        """Ask about a manifest. Raises UnauthorizedError, UnreachableError."""
        deadline = self._deadline()
        await self._pass_breaker()
        asking = find_manifest(self._registry.host, self._url, self._authenticator, image, deadline)
        return await self._observed(asking, deadline)

    async def platforms(self, image: Reference) -> tuple[str, ...]:
        """The platforms in an image's index. Raises UnauthorizedError, UnreachableError."""
        return await find_platforms(self._url, self._authenticator, image, self._deadline())

    async def ping(self) -> PingReport:
        """Ask `GET /v2/` and log in, whatever the breaker says; it learns from the answer."""
        pinger = Pinger(self._registry, self._url, self._transport, self._rules, self._clock)
        asked_at = self._clock()
        report = await pinger.ping(self._deadline())
        if isinstance(pinger.failure, UnauthorizedError):
            self._condition.refused(pinger.failure)
        elif pinger.failure is not None:
            self._condition.failed(pinger.failure, asked_at)
        elif self._registry.credentials is not None and report.login == "not needed":
            self._condition.answered()
        else:
            self._condition.served()
        return report

    async def aclose(self) -> None:
        """End the trial and close the connections."""
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)
        await self._transport.aclose()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    async def _pass_breaker(self) -> None:
        """Return when the registry may be asked. Raises UnreachableError when it may not."""
        if self._breaker.lets_through:
            return
        if self._breaker.trial_is_due():
            self._breaker.begin_trial()
            self._trial = asyncio.create_task(self._try())
        if self._trial is not None:
            await asyncio.wait({self._trial}, timeout=TRIAL_GRACE_S)
        if not self._breaker.lets_through:
            raise UnreachableError(self._registry.host, self._breaker.refusal(), Fault.CONNECT)

    async def _try(self) -> None:
        """Send one authenticated `GET /v2/` and let the breaker judge by it."""
        deadline = self._deadline()
        try:
            await self._observed(self._knock(deadline), deadline)
        except RegistryError:
            pass  # the breaker has been told
        except Exception:
            _logger.exception("%s: unexpected error in a trial", self._registry.host)
        finally:
            self._breaker.abandon_trial()

    async def _knock(self, deadline: float) -> None:
        """Ask for an answer to a login, whichever. Raises UnauthorizedError, UnreachableError."""
        ask = Ask("GET", f"{self._url}/v2/", deadline, body_limit_bytes=_PING_LIMIT_BYTES)
        answer = await self._authenticator.send(ask)
        if answer.status >= 500:
            raise UnreachableError(self._registry.host, status_reason(answer), Fault.ANSWERED)

    async def _observed(self, asking: Awaitable[T], deadline: float) -> T:
        """Await an asking and tell how it went; one that its caller gave up tells nothing."""
        asked_at = self._clock()
        try:
            result = await asking
        except UnauthorizedError as error:
            self._condition.refused(error)
            raise
        except UnreachableError as error:
            self._condition.failed(error, asked_at)
            raise
        except asyncio.CancelledError:
            # A caller whose patience ends with the probe timeout may be a moment ahead of it.
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s < self._timeout_s * GIVEN_UP_SHARE:
                silence = UnreachableError(self._registry.host, _SILENCE, Fault.SILENT)
                self._condition.failed(silence, asked_at)
            raise
        self._condition.served()
        return result
