"""The client of all configured registries."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from shimcore.errors import RegistryError
from shimcore.registry.answers import (
    ManifestAnswer,
    Outcome,
    PingReport,
    RegistryHealth,
    RegistryState,
)
from shimcore.registry.condition import Condition
from shimcore.registry.errors import UnauthorizedError
from shimcore.registry.health import Breaker
from shimcore.registry.http.proxy import ProxyRules
from shimcore.registry.http.tls import make_context
from shimcore.singleflight import FlightCancelledError, SingleFlight
from shimcore.threads import in_thread

if TYPE_CHECKING:
    from shimcore.config import Registry
    from shimcore.reference import Reference
    from shimcore.registry.endpoint import Endpoint

_logger = logging.getLogger(__name__)

LOOK_OLD_S = 10.0
"""Older news is asked for anew by a look; somebody who watches asks each two seconds."""

LOOK_S = 2.5
"""How long a look is waited for; within what an answer of `status` may take."""

LOOK_AT_ONCE = 16
"""Registries of one look. A node has one to five."""

QUESTION_SLACK_S = 0.2
"""Grace over `probeTimeout`: the endpoint's own bound, whose reason is better, wins."""

_LOAD_S = 5.0  # of a disk that is well, on a machine that is busy, a second
_NEXT_LOAD_S = 1.0
_SILENT = (
    "the folder of the program or of the system's authorities does not answer; see the disk that"
    " it is on"
)
_CLOSED = "not asked: the registry client was closed"
_DEFECT = "unexpected error (see the log)"

_Settings = tuple[bytes | None, bool]
"""Those of a TLS context: the authority beside the system's, and whether nothing is verified."""


class RegistryClient:
    """Asks registries about manifests and about themselves.

    One for a configuration; connections, tokens and the health of each registry live as long as it
    does. `head_manifest` and `ping` answer, they do not raise.
    """

    def __init__(
        self,
        registries: Sequence[Registry],
        *,
        probe_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._closed = False
        self._registries = registries
        self._probe_timeout_s = probe_timeout_s
        self._clock = clock
        self._conditions: dict[str, Condition] = {}
        for registry in registries:
            self._condition(registry)
        self._endpoints: dict[Registry, Endpoint] = {}
        self._contexts: dict[_Settings, ssl.SSLContext] = {}
        self._loading = asyncio.Lock()
        self._loads: dict[_Settings, asyncio.Future[None]] = {}
        self._overdue = False  # the load that began last
        self._flights: SingleFlight[tuple[Registry, str], ManifestAnswer] = SingleFlight()
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def head_manifest(self, registry: Registry, image: Reference) -> ManifestAnswer:
        """Ask whether the registry has the image, within the probe timeout.

        What has to be loaded before is no time of the registry's.
        `image` is the candidate, its domain the registry's host. Those who ask the same at the
        same time share one question. Raises nothing but CancelledError.
        """
        started = self._clock()
        try:
            return await self._flights.run(
                (registry, str(image)), lambda: self._question(registry, image)
            )
        except FlightCancelledError:
            elapsed_s = self._clock() - started
            return ManifestAnswer(Outcome.UNREACHABLE, None, _CLOSED, elapsed_s)

    async def platforms(self, registry: Registry, image: Reference) -> tuple[str, ...]:
        """Return the platforms that the registry has a candidate for; none where it does not say.

        Raises nothing but CancelledError.
        """
        try:
            return await (await self._endpoint(registry)).platforms(image)
        except RegistryError:
            return ()
        except Exception:
            _logger.exception("%s: unexpected error", registry.host)
            return ()

    async def ping(self, registry: Registry) -> PingReport:
        """Ask `GET /v2/` and log in as configured. Raises nothing but CancelledError."""
        started = self._clock()
        try:
            return await (await self._endpoint(registry)).ping()
        except RegistryError as error:
            detail = error.reason
        except Exception:
            _logger.exception("%s: unexpected error", registry.host)
            detail = _DEFECT
        elapsed_s = self._clock() - started
        return PingReport(reachable=False, ok=False, detail=detail, elapsed_s=elapsed_s)

    async def look(self) -> None:
        """Ask those that have told nothing of themselves for LOOK_OLD_S: no older state is shown.

        Returns when they have answered, or LOOK_S are over; questions that take longer go on.
        """
        self.begin_look(LOOK_OLD_S)
        if self._looks:
            await asyncio.wait(set(self._looks.values()), timeout=LOOK_S)

    def begin_look(self, old_s: float) -> None:
        """Begin to ask those that have told nothing of themselves for `old_s`."""
        told = [(one, self._conditions[one.host]) for one in self._registries]
        old = [one for one, condition in told if _is_old(condition, old_s)]
        for registry in old[:LOOK_AT_ONCE]:
            if registry.host not in self._looks:
                self._looks[registry.host] = asyncio.ensure_future(self._look_at(registry))

    async def _look_at(self, registry: Registry) -> None:
        try:
            await self.ping(registry)
            if self._conditions[registry.host].breaker.in_doubt:
                await self.ping(registry)
        finally:
            del self._looks[registry.host]

    def states(self) -> dict[str, str]:
        """Return each registry's host with "closed" (well), "open" (dead) or "half-open"."""
        return {host: str(kept.breaker.state) for host, kept in self._conditions.items()}

    def health(self) -> dict[str, RegistryHealth]:
        """Return each registry's host with what the client's own requests have told of it."""
        return {host: condition.report() for host, condition in self._conditions.items()}

    async def aclose(self) -> None:
        """End what is being asked and close all connections."""
        self._closed = True
        looks = list(self._looks.values())
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        await self._flights.cancel_all()
        endpoints, self._endpoints = list(self._endpoints.values()), {}
        await asyncio.gather(*(endpoint.aclose() for endpoint in endpoints))

    async def _question(self, registry: Registry, image: Reference) -> ManifestAnswer:
        started, limit_s = self._clock(), self._probe_timeout_s + QUESTION_SLACK_S
        try:
            endpoint = await self._endpoint(registry)
            started = self._clock()
            async with asyncio.timeout(limit_s):
                answer = await endpoint.find(image)
        except UnauthorizedError as error:
            answer = ManifestAnswer(Outcome.UNAUTHORIZED, None, error.reason)
        except RegistryError as error:
            answer = ManifestAnswer(Outcome.UNREACHABLE, None, error.reason)
        except TimeoutError:
            why = f"no answer within {limit_s:.1f} s"
            answer = ManifestAnswer(Outcome.UNREACHABLE, None, why)
        except Exception:
            _logger.exception("%s: unexpected error", registry.host)
            answer = ManifestAnswer(Outcome.UNREACHABLE, None, _DEFECT)
        return replace(answer, elapsed_s=self._clock() - started)

    def _condition(self, registry: Registry) -> Condition:
        condition = self._conditions.get(registry.host)
        if condition is None:
            breaker = Breaker(self._clock, random.random)
            login = registry.credentials is not None
            condition = Condition(breaker, self._clock, login=login)
            self._conditions[registry.host] = condition
        return condition

    async def _endpoint(self, registry: Registry) -> Endpoint:
        """Return the registry's endpoint, made at the first question. Raises RegistryError."""
        settings = (registry.authority, registry.insecure_skip_verify)
        if settings not in self._contexts and not self._closed:
            await self._load(registry.host, settings)
        if self._closed:
            raise RegistryError(registry.host, _CLOSED)
        endpoint = self._endpoints.get(registry)
        if endpoint is None:
            from shimcore.registry.endpoint import Endpoint  # noqa: PLC0415 - is loaded by now

            endpoint = self._endpoints[registry] = Endpoint(
                registry,
                self._contexts[settings],
                ProxyRules.from_environment(os.environ),
                self._condition(registry),
                probe_timeout_s=self._probe_timeout_s,
                clock=self._clock,
            )
        return endpoint

    async def _load(self, host: str, settings: _Settings) -> None:
        """Make the TLS context of all registries with these settings. Raises RegistryError."""
        if settings not in self._loads:
            self._loads[settings] = begun = asyncio.ensure_future(self._load_in_turn(settings))
            begun.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.shield(self._loads[settings])
        except TimeoutError:
            raise RegistryError(host, _SILENT) from None
        except RuntimeError as error:  # no thread or no memory can be had
            raise RegistryError(host, f"cannot be asked: {error}") from error

    async def _load_in_turn(self, settings: _Settings) -> None:
        """Raises TimeoutError where it takes longer than _LOAD_S, RuntimeError."""
        # One at a time: each holds the interpreter for tens of milliseconds. A disk that does not
        # answer keeps the others waiting for a moment alone.
        async with self._loading:
            deadline = asyncio.get_running_loop().time() + _LOAD_S
            loading = asyncio.ensure_future(in_thread(partial(_load_now, *settings)))
            loading.add_done_callback(partial(self._loaded, settings))
            await asyncio.wait({loading}, timeout=0 if self._overdue else _NEXT_LOAD_S)
            self._overdue = not loading.done()
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(loading)

    def _loaded(self, settings: _Settings, loading: asyncio.Future[ssl.SSLContext]) -> None:
        self._overdue = False
        del self._loads[settings]
        if not loading.cancelled() and not loading.exception():
            self._contexts[settings] = loading.result()


def _load_now(authority: bytes | None, insecure: bool) -> ssl.SSLContext:
    """Return a TLS context, with all imported that a question needs."""
    # A node that has its images asks no registry: until then no HTTP library is there.
    import shimcore.registry.endpoint  # noqa: PLC0415, F401

    return make_context(authority, insecure=insecure)


def _is_old(condition: Condition, old_s: float) -> bool:
    health = condition.report()
    if condition.breaker.in_doubt:
        return True
    if health.state is RegistryState.DOWN and not health.retry_in_s:
        return True  # it would be tried now
    ages = [ago for ago in (health.answered_ago_s, health.failed_ago_s) if ago is not None]
    return min(ages, default=old_s) >= old_s
