"""Keeps up with the cluster's part of the configuration, whatever the API server does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from shimcore.cluster.documents import ClusterPart, Document, Event, Kind
from shimcore.cluster.errors import (
    ApiUnreachableError,
    BusyError,
    ClusterError,
    EndedError,
    GoneError,
    RefusedError,
)
from shimcore.cluster.pace import SETTLE_S, STEADY_S, Pace
from shimcore.config.files import not_answering
from shimcore.config.model import KubernetesSource
from shimcore.threads import in_thread

if TYPE_CHECKING:
    from shimcore.cluster.api import Api

log = logging.getLogger("shimcore.cluster")

# A watch that has lasted less of its time than this was ended by a server that goes away.
_EARLY = 0.9
# Failures in a row after which what is known of the versions is not relied on any more.
_FORGET = 3
# An API server that starts refuses everybody until it has read the roles.
_PASSING_REFUSALS = 2
# Connections in a row that were cut this young, after which that is said once.
_CUTS, _YOUNG_S = 3, 300.0


class Condition(StrEnum):
    """How it stands with the API server."""

    STARTING = "starting"
    WATCHING = "watching"
    RECONNECTING = "reconnecting"
    AWAY = "away"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The condition, why, and since when (seconds since 1970)."""

    condition: Condition
    detail: str
    since: float

    @property
    def watching(self) -> bool:
        """Whether a change is learnt of."""
        return self.condition is Condition.WATCHING


class Follower:
    """Watches both objects and tells what they say: once it is known, and when it changes.

    `known` is the part that counts already (the kept copy). A kind that cannot be asked keeps
    what was last known of it.
    """

    def __init__(
        self,
        source: KubernetesSource,
        known: ClusterPart | None,
        tell: Callable[[ClusterPart], Awaitable[None]],
        *,
        pace: Pace | None = None,
        connect: Callable[[KubernetesSource], Awaitable[Api]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._tell = tell
        self._pace = pace or Pace()
        self._connect = connect or partial(_connect, silent=self._tell_silent)
        self._sleep = sleep
        self._has_copy = known is not None
        self._documents: dict[Kind, Document | None] = dict(known.documents) if known else {}
        self._passed_on: dict[Kind, str] | None = None
        self._versions: dict[Kind, str] = {}  # to go on from
        # Nothing older is taken from a server's cache.
        self._newest = {kind: one.version for kind, one in known.documents.items()} if known else {}
        self._settled: set[Kind] = set()  # answered or refused, at least once
        self._allowed: set[Kind] = set()  # answered, at least once
        self._refused: dict[Kind, RefusedError | BusyError] = {}
        self._watching: set[Kind] = set()
        self._steady_since: float | None = None
        self._cuts = 0
        self.has_watched = False
        """Whether it ever did."""
        self._lacks: dict[Kind, str] = {}
        self._news = asyncio.Event()
        self.status = WatchStatus(Condition.STARTING, "", time.time())

    @property
    def part(self) -> ClusterPart:
        """What the cluster says, as far as it is known."""
        there = {kind: found for kind, found in self._documents.items() if found is not None}
        return ClusterPart(self._source, there)

    async def run(self) -> NoReturn:
        """Never returns; cancel it. Raises nothing that an API server can bring about."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._telling())
            group.create_task(self._connecting())
        raise AssertionError("both go on for ever")

    async def _connecting(self) -> NoReturn:
        await self._sleep(self._pace.start(known=self._has_copy))
        failures = 0
        while True:
            error = await self._session()
            if isinstance(error, RefusedError) and self._watched_s() > STEADY_S:
                # A login that has expired: its renewal is in the kubeconfig.
                error = EndedError(str(error))
            failures = 1 if self._watched_s() > STEADY_S else failures + 1
            if failures >= _FORGET:
                self._versions.clear()
            delay_s = self._delay(error, failures)
            self._stand_apart(error, delay_s)
            await self._sleep(delay_s)

    def _watched_s(self) -> float:
        """How long the connection has been watched; 0 for one that never was."""
        return _now() - self._steady_since if self._steady_since is not None else 0.0

    def _delay(self, error: ClusterError, failures: int) -> float:
        if isinstance(error, ApiUnreachableError):
            return max(self._pace.retry(failures), error.retry_after_s)
        return self._pace.refused(failures)

    async def _session(self) -> ClusterError:
        """One connection, for as long as it holds; why it ended."""
        self._steady_since = None
        self._watching.clear()
        self._refused.clear()
        try:
            connection = await self._connect(self._source)
        except ClusterError as error:
            return error
        failed: list[ClusterError] = []
        try:
            async with asyncio.TaskGroup() as group:
                for kind in Kind:
                    group.create_task(self._follow(connection, kind))
        except* ClusterError as errors:
            failed = [one for one in errors.exceptions if isinstance(one, ClusterError)]
        except* MemoryError:
            failed.append(ApiUnreachableError("no memory is left"))
        finally:
            await connection.aclose()
        return failed[0]

    async def _follow(self, connection: Api, kind: Kind) -> NoReturn:
        """List once, then one watch after the other. Raises ClusterError."""
        fresh = False
        refusals = busy = 0
        while True:
            try:
                if kind not in self._versions:
                    known = self._newest.get(kind, "")
                    self._note(kind, await connection.list(kind, fresh=fresh, known=known))
                await self._watch(connection, kind)
                refusals = busy = 0
            except GoneError as error:
                log.debug("%s: version %s: %s", kind, self._versions.pop(kind, ""), error)
                fresh = True
                await self._sleep(self._pace.spread())
            except RefusedError as error:
                if not error.kind_only:
                    raise
                refusals += 1
                passing = kind in self._allowed and refusals <= _PASSING_REFUSALS
                delay_s = (self._pace.retry if passing else self._pace.refused)(refusals)
                self._note_refusal(kind, error, delay_s)
                await self._sleep(delay_s)
            except BusyError as error:
                busy += 1
                await self._sleep(SETTLE_S)  # for the other kind's answer
                if not self._watching:
                    raise
                delay_s = max(self._pace.retry(busy), error.retry_after_s)
                self._note_refusal(kind, error, delay_s, settled=busy >= _FORGET)
                await self._sleep(delay_s)

    async def _watch(self, connection: Api, kind: Kind) -> None:
        """One watch to its end. Raises EndedError for one that comes too early."""
        timeout_s = self._pace.watch()
        begun = _now()
        try:
            async with aclosing(connection.watch(kind, self._versions[kind], timeout_s)) as events:
                async for event in events:
                    if event.bookmark:
                        self._versions[kind] = self._newest[kind] = event.version
                        self._note_watching(kind)
                    else:
                        self._note(kind, event)
        except BusyError:
            self._watching.discard(kind)
            raise
        except ApiUnreachableError as error:
            if kind not in self._watching:
                raise
            raise EndedError(str(error), error.retry_after_s) from error
        if _now() - begun < timeout_s * _EARLY:
            raise EndedError("the API server ended a watch before its time")

    def _note(self, kind: Kind, event: Event) -> None:
        """The object as it is now."""
        self._versions[kind] = self._newest[kind] = event.version
        self._documents[kind] = event.document
        if event.lack and event.lack != self._lacks.get(kind):
            log.warning(
                "Kubernetes: %s: %s; it counts as absent", self.part.origin(kind), event.lack
            )
        self._lacks[kind] = event.lack
        self._allowed.add(kind)
        self._settle(kind)

    def _settle(self, kind: Kind) -> None:
        self._settled.add(kind)
        if len(self._settled) == len(Kind):
            self._news.set()

    async def _telling(self) -> NoReturn:
        while True:
            await self._news.wait()
            await self._sleep(SETTLE_S)
            self._news.clear()
            texts = _texts(self._documents)
            if texts != self._passed_on:
                self._passed_on = texts
                await self._tell(self.part)

    def _note_watching(self, kind: Kind) -> None:
        self._refused.pop(kind, None)
        self._watching.add(kind)
        self.has_watched = True
        if self._steady_since is None:
            self._steady_since = _now()
        if len(self._watching) + len(self._refused) < len(Kind):
            return
        if self._refused:
            self._stand_refused()
        else:
            self._stand(Condition.WATCHING, "")

    def _stand_refused(self) -> bool:
        errors = self._refused.values()
        refused = any(isinstance(error, RefusedError) for error in errors)
        condition = Condition.REFUSED if refused else Condition.AWAY
        return self._stand(condition, "; ".join(map(str, errors)))

    def _note_refusal(
        self, kind: Kind, error: RefusedError | BusyError, delay_s: float, *, settled: bool = True
    ) -> None:
        """One kind is not answered, and the other may be."""
        self._watching.discard(kind)
        self._refused[kind] = error
        if self._stand_refused():
            log.error(
                "Kubernetes: %s: %s; what was known of it stays, asked again in %.0f s",
                kind,
                error,
                delay_s,
            )
        if settled:
            self._settle(kind)

    def _stand_apart(self, error: ClusterError, delay_s: float) -> None:
        """The connection is lost, or was never there."""
        if isinstance(error, EndedError):
            log.debug("Kubernetes: %s; connecting again in %.0f s", error, delay_s)
            self._count_cut(error)
            if self.status.condition is Condition.WATCHING:
                self._stand(Condition.RECONNECTING, "")
            return
        refused = isinstance(error, RefusedError)
        condition = Condition.REFUSED if refused else Condition.AWAY
        if self._stand(condition, str(error)):
            log.warning(
                "Kubernetes: %s; the configuration in force stays, tried again in %.0f s",
                error,
                delay_s,
            )

    def _tell_silent(self) -> None:
        """What a connection is made from takes long to be read."""
        why = not_answering(self._source.kubeconfig)
        if self._stand(Condition.AWAY, why):
            log.warning("Kubernetes: %s; the configuration in force stays", why)

    def _count_cut(self, error: EndedError) -> None:
        """Say once what keeps happening, each time within minutes."""
        self._cuts = self._cuts + 1 if self._watched_s() < _YOUNG_S else 0
        if self._cuts == _CUTS:
            log.warning(
                "Kubernetes: %s, %d times in a row after less than %.0f min; does a proxy or load "
                "balancer before the API server cut what is idle? Changes are seen later than made",
                error,
                _CUTS,
                _YOUNG_S / 60,
            )

    def _stand(self, condition: Condition, detail: str) -> bool:
        """Whether that is something new; then it is to be logged."""
        before = self.status
        if (before.condition, before.detail) == (condition, detail):
            return False
        since = before.since if before.condition is condition else time.time()
        self.status = WatchStatus(condition, detail, since)
        if condition is Condition.WATCHING and before.condition is not Condition.RECONNECTING:
            source = self._source
            log.info(
                "Kubernetes: watching ConfigMap and Secret %s/%s", source.namespace, source.name
            )
        return True


async def _connect(source: KubernetesSource, silent: Callable[[], object]) -> Api:
    """A connection, with an HTTP client that only those who need it load.

    In a thread: it takes the first time some 300 ms, and calls are relayed meanwhile. Raises
    ApiUnreachableError where none can be had.
    """
    try:
        return await in_thread(partial(_connect_now, source), silent)
    except RuntimeError as error:  # no thread or no memory can be had
        raise ApiUnreachableError(str(error)) from error


def _connect_now(source: KubernetesSource) -> Api:
    from shimcore.cluster.api import Api  # noqa: PLC0415

    return Api(source)


def _texts(documents: dict[Kind, Document | None]) -> dict[Kind, str]:
    """What counts of the documents: a changed label of an object changes nothing."""
    return {kind: document.text for kind, document in documents.items() if document is not None}


def _now() -> float:
    return asyncio.get_running_loop().time()
