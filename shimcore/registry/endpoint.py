"""One registry as the client sees it: its connections, its login and its health."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from shimcore.errors import RegistryError
from shimcore.registry.answers import PingReport
from shimcore.registry.auth import Authenticator
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError
from shimcore.registry.health import Breaker
from shimcore.registry.manifest import Finding, find_manifest
from shimcore.registry.ping import Pinger
from shimcore.registry.proxy import ProxyRules
from shimcore.registry.transport import Ask, Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shimcore.config import Registry
    from shimcore.reference import Reference

T = TypeVar("T")
_logger = logging.getLogger(__name__)

# How long a question waits for the trial that it set off or met: enough for a registry that came
# back to say so, and all that a dead one costs.
TRIAL_GRACE_S = 0.2

_PING_LIMIT_BYTES = 64 * 1024


class Endpoint:
    """Asks one registry, unless it was just seen to be dead."""

    def __init__(
        self,
        registry: Registry,
        context: ssl.SSLContext,
        rules: ProxyRules,
        breaker: Breaker,
        *,
        probe_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.breaker = breaker
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

    async def find(self, image: Reference) -> Finding:
        """Ask about a manifest. Raises UnauthorizedError, UnreachableError."""
        await self._pass_breaker()
        return await self._observed(
            find_manifest(
                self._registry.host, self._url, self._authenticator, image, self._deadline()
            )
        )

    async def ping(self) -> PingReport:
        """Ask `GET /v2/` and log in, whatever the breaker says; it learns from the answer."""
        pinger = Pinger(self._registry, self._url, self._transport, self._rules, self._clock)
        asked_at = self._clock()
        report = await pinger.ping(self._deadline())
        if pinger.failure is None:
            self.breaker.answered()
        else:
            self.breaker.failed(pinger.failure.fault, pinger.failure.reason, asked_at)
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
        if self.breaker.lets_through:
            return
        if self.breaker.trial_is_due():
            self.breaker.begin_trial()
            self._trial = asyncio.create_task(self._try())
        if self._trial is not None:
            await asyncio.wait({self._trial}, timeout=TRIAL_GRACE_S)
        if not self.breaker.lets_through:
            raise UnreachableError(self._registry.host, self.breaker.refusal(), Fault.CONNECT)

    async def _try(self) -> None:
        """Send one authenticated `GET /v2/` and let the breaker judge by it."""
        ask = Ask("GET", f"{self._url}/v2/", self._deadline(), body_limit_bytes=_PING_LIMIT_BYTES)
        try:
            await self._observed(self._authenticator.send(ask, scope=""))
        except RegistryError:
            pass  # the breaker has been told
        except Exception:
            _logger.exception("%s: unexpected error in a trial", self._registry.host)
        finally:
            self.breaker.abandon_trial()

    async def _observed(self, asking: Awaitable[T]) -> T:
        """Await an asking and tell the breaker how it went."""
        asked_at = self._clock()
        try:
            result = await asking
        except UnauthorizedError:
            self.breaker.answered()
            raise
        except UnreachableError as error:
            self.breaker.failed(error.fault, error.reason, asked_at)
            raise
        self.breaker.answered()
        return result
