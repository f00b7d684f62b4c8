"""What the follower does by the clock: hours of it, on a simulated one."""

from __future__ import annotations

import _thread
import asyncio
import logging
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from unittest import mock

import pytest

from shimcore import threads
from shimcore.cluster import watch
from shimcore.cluster.api import Api
from shimcore.cluster.documents import ClusterPart, Document, Event, Kind
from shimcore.cluster.errors import (
    ApiUnreachableError,
    BusyError,
    ClusterError,
    GoneError,
    RefusedError,
)
from shimcore.cluster.pace import Pace
from shimcore.cluster.watch import Condition, Follower
from shimcore.config.model import KubernetesSource
from tests.support.simulated import run_simulated

SOURCE = KubernetesSource(enabled=True, kubeconfig="/k")
HOUR = 3600.0


@dataclass
class Server:
    """An API server in memory; every request is noted with its time."""

    asked: list[tuple[float, str]] = field(default_factory=list)
    objects: dict[Kind, Document] = field(default_factory=dict)
    fault: ClusterError | None = None
    faults: dict[str, ClusterError] = field(default_factory=dict)  # by "list Secret"
    ends_after_s: float | None = None
    connects: int = 0
    queues: list[tuple[Kind, asyncio.Queue[Event | ClusterError]]] = field(default_factory=list)

    async def connect(self, _source: KubernetesSource) -> Api:
        self.connects += 1
        return _Link(self)

    def ask(self, what: str) -> None:
        self.asked.append((asyncio.get_running_loop().time(), what))
        if self.fault is not None:
            raise self.fault
        if what in self.faults:
            raise self.faults[what]

    def put(self, kind: Kind, text: str, version: str) -> None:
        self.objects[kind] = Document(text, version)
        self.send(kind, Event(version, self.objects[kind]))

    def send(self, kind: Kind, event: Event | ClusterError) -> None:
        for one, queue in self.queues:
            if one is kind:
                queue.put_nowait(event)

    def go_away(self, error: ClusterError) -> None:
        self.fault = error
        for _, queue in self.queues:
            queue.put_nowait(error)

    def since(self, begun: float) -> list[str]:
        return [what for at, what in self.asked if at >= begun]


class _Link(Api):
    def __init__(self, server: Server) -> None:
        self._stand_in = server

    async def list(self, kind: Kind, *, fresh: bool, known: str = "") -> Event:
        self._stand_in.ask(f"{'fresh ' if fresh else ''}list {kind}")
        return Event("10", self._stand_in.objects.get(kind))

    async def watch(self, kind: Kind, version: str, timeout_s: float) -> AsyncGenerator[Event]:
        self._stand_in.ask(f"watch {kind} {version}")
        yield Event(version, bookmark=True)
        queue: asyncio.Queue[Event | ClusterError] = asyncio.Queue()
        self._stand_in.queues.append((kind, queue))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stand_in.ends_after_s or timeout_s):
                    while True:
                        event = await queue.get()
                        if isinstance(event, ClusterError):
                            raise event
                        yield event
        finally:
            self._stand_in.queues.remove((kind, queue))

    async def aclose(self) -> None:
        return


@asynccontextmanager
async def following(
    server: Server, known: ClusterPart | None = None
) -> AsyncIterator[tuple[Follower, list[dict[Kind, str]]]]:
    told: list[dict[Kind, str]] = []

    async def tell(part: ClusterPart) -> None:
        told.append({kind: document.text for kind, document in part.documents.items()})

    pace = Pace(random.Random(7))
    follower = Follower(SOURCE, known, tell, pace=pace, connect=server.connect)
    task = asyncio.ensure_future(follower.run())
    try:
        yield follower, told
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def condition(follower: Follower) -> Condition:
    return follower.status.condition


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_quiet_day() -> None:
    """Two lists at the start, then two watches every 30 to 60 minutes, each from where it was."""

    async def story() -> None:
        server = Server()
        async with following(server) as (follower, told):
            await asyncio.sleep(10)
            assert condition(follower) is Condition.WATCHING
            assert told == [{}]
            server.send(Kind.SECRET, Event("77", bookmark=True))
            begun = now()
            await asyncio.sleep(24 * HOUR)
            asked = server.since(begun)
            assert 48 <= len(asked) <= 96
            assert set(asked) == {"watch ConfigMap 10", "watch Secret 77"}
            assert server.connects == 1
            assert told == [{}]

    run_simulated(story())


def test_a_change_is_told_once() -> None:
    """Two objects changed together are one change; the same text again is none."""

    async def story() -> None:
        server = Server()
        async with following(server) as (_, told):
            await asyncio.sleep(10)
            server.put(Kind.CONFIG_MAP, "a", "11")
            server.put(Kind.SECRET, "b", "12")
            await asyncio.sleep(5)
            server.put(Kind.CONFIG_MAP, "a", "13")
            await asyncio.sleep(5)
            server.send(Kind.SECRET, Event("14"))
            await asyncio.sleep(5)
            both = {Kind.CONFIG_MAP: "a", Kind.SECRET: "b"}
            assert told == [{}, both, {Kind.CONFIG_MAP: "a"}]

    run_simulated(story())


def test_away_at_the_start_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is told, one line is logged, tries get rarer; then it is all there."""
    caplog.set_level(logging.INFO, "shimcore")

    async def story() -> None:
        server = Server(fault=ApiUnreachableError("127.0.0.1:6443: Connection refused"))
        server.objects[Kind.CONFIG_MAP] = Document("a", "5")
        async with following(server) as (follower, told):
            await asyncio.sleep(HOUR)
            assert told == []
            assert condition(follower) is Condition.AWAY
            assert "Connection refused" in follower.status.detail
            tries = server.connects
            assert 10 <= tries <= 25
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            server.fault = None
            await asyncio.sleep(302)
            assert condition(follower) is Condition.WATCHING
            assert told == [{Kind.CONFIG_MAP: "a"}]
            assert "watching" in caplog.text

    run_simulated(story())


def test_away_for_an_hour_in_between() -> None:
    """What changed meanwhile is seen on return; what did not is not told again."""

    async def story() -> None:
        server = Server()
        async with following(server) as (_, told):
            await asyncio.sleep(HOUR)
            server.go_away(ApiUnreachableError("gone"))
            await asyncio.sleep(HOUR)
            begun = now()
            server.fault = None
            server.objects[Kind.SECRET] = Document("new", "900")
            await asyncio.sleep(302)
            assert told == [{}, {Kind.SECRET: "new"}]
            assert sorted(server.since(begun)) == [
                "list ConfigMap",
                "list Secret",
                "watch ConfigMap 10",
                "watch Secret 10",
            ]

    run_simulated(story())


def test_a_short_cut_goes_on_from_the_version() -> None:
    """No list: the watches go on from where they were, within 30 s."""

    async def story() -> None:
        server = Server()
        async with following(server) as (follower, _):
            await asyncio.sleep(HOUR / 4)
            begun = now()
            server.go_away(ApiUnreachableError("cut"))
            server.fault = None
            await asyncio.sleep(0.01)
            assert condition(follower) is Condition.RECONNECTING
            await asyncio.sleep(31)
            assert condition(follower) is Condition.WATCHING
            assert sorted(server.since(begun)) == ["watch ConfigMap 10", "watch Secret 10"]

    run_simulated(story())


def test_a_server_that_ends_every_watch_at_once() -> None:
    """It is not asked again and again: less and less, down to every few minutes."""

    async def story() -> None:
        server = Server(ends_after_s=0.1)
        async with following(server):
            await asyncio.sleep(HOUR)
            begun = now()
            await asyncio.sleep(HOUR)
            assert len(server.since(begun)) <= 4 * HOUR / 150

    run_simulated(story())


def test_a_proxy_that_cuts_what_is_idle(caplog: pytest.LogCaptureFixture) -> None:
    """Begun again within 30 s each time, from the version, nothing listed; that is said once."""
    caplog.set_level(logging.WARNING, "shimcore")

    async def story() -> None:
        server = Server(ends_after_s=35.0)
        async with following(server):
            await asyncio.sleep(60)
            begun = now()
            await asyncio.sleep(HOUR)
            asked = server.since(begun)
            assert set(asked) == {"watch ConfigMap 10", "watch Secret 10"}
            assert 2 * HOUR / 66 <= len(asked) <= 2 * HOUR / 40
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "3 times in a row after less than 5 min" in caplog.text

    run_simulated(story())


def test_too_old_a_version() -> None:
    """410: listed again, not from the cache, after a random while; only that kind."""

    async def story() -> None:
        server = Server()
        async with following(server) as (follower, _):
            await asyncio.sleep(HOUR / 4)
            begun = now()
            server.send(Kind.SECRET, GoneError("too old"))
            await asyncio.sleep(31)
            assert server.since(begun) == ["fresh list Secret", "watch Secret 10"]
            assert server.connects == 1
            assert condition(follower) is Condition.WATCHING

    run_simulated(story())


def test_one_kind_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """The other counts all the same; the refused one is asked rarely and said once."""
    caplog.set_level(logging.INFO, "shimcore")
    known = ClusterPart(SOURCE, {Kind.SECRET: Document("kept", "1")})

    async def story() -> None:
        server = Server()
        server.faults["list Secret"] = RefusedError("refuses (403): secrets", 403)
        server.objects[Kind.CONFIG_MAP] = Document("a", "5")
        async with following(server, known) as (follower, told):
            await asyncio.sleep(4 * HOUR)
            assert condition(follower) is Condition.REFUSED
            assert told == [{Kind.CONFIG_MAP: "a", Kind.SECRET: "kept"}]
            assert len([what for _, what in server.asked if what == "list Secret"]) <= 30
            assert caplog.text.count("403") == 1
            server.faults.clear()
            await asyncio.sleep(901)
            assert condition(follower) is Condition.WATCHING
            assert told[1:] == [{Kind.CONFIG_MAP: "a"}]

    run_simulated(story())


@pytest.mark.parametrize("is_known", [False, True])
def test_one_kind_is_not_answered(caplog: pytest.LogCaptureFixture, is_known: bool) -> None:
    """Secrets answer 500: after a few tries the ConfigMap counts, with what was known of the
    Secret; the watch of the other stays, and one line is logged."""
    caplog.set_level(logging.WARNING, "shimcore")
    kept = {Kind.SECRET: Document("kept", "1")} if is_known else {}

    async def story() -> None:
        server = Server()
        server.faults["list Secret"] = BusyError("the API server answers 500: encryption")
        server.objects[Kind.CONFIG_MAP] = Document("a", "5")
        async with following(server, ClusterPart(SOURCE, kept)) as (follower, told):
            await asyncio.sleep(180)
            secret = {Kind.SECRET: "kept"} if is_known else {}
            assert told == [{Kind.CONFIG_MAP: "a"} | secret]
            await asyncio.sleep(HOUR)
            assert server.connects == 1
            assert condition(follower) is Condition.AWAY
            assert follower.status.detail == "the API server answers 500: encryption"
            assert 10 <= len([what for _, what in server.asked if what == "list Secret"]) <= 25
            server.faults.clear()
            server.objects[Kind.SECRET] = Document("new", "9")
            await asyncio.sleep(302)
            assert condition(follower) is Condition.WATCHING
            assert told[1:] == [{Kind.CONFIG_MAP: "a", Kind.SECRET: "new"}]

    run_simulated(story())
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_neither_kind_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    """The server is away, and may be another one at the next connection."""

    async def story() -> None:
        server = Server(fault=BusyError("the API server answers 503: starts"))
        async with following(server) as (follower, told):
            await asyncio.sleep(HOUR)
            assert condition(follower) is Condition.AWAY
            assert told == []
            assert 10 <= server.connects <= 25

    run_simulated(story())


def test_a_login_that_expires(caplog: pytest.LogCaptureFixture) -> None:
    """The first 401 after hours is no refusal: the renewed login is read within 30 s."""
    caplog.set_level(logging.INFO, "shimcore")

    async def story() -> None:
        server = Server()
        async with following(server) as (follower, _):
            await asyncio.sleep(HOUR)
            begun = now()
            server.go_away(RefusedError("does not know the login (401)", 401))
            server.fault = None
            await asyncio.sleep(1)
            assert condition(follower) is Condition.RECONNECTING
            await asyncio.sleep(31)
            assert condition(follower) is Condition.WATCHING
            assert sorted(server.since(begun)) == ["watch ConfigMap 10", "watch Secret 10"]
        assert [record.levelname for record in caplog.records] == ["INFO"]

    run_simulated(story())


def test_a_passing_refusal() -> None:
    """A server that has just started refuses until it knows the roles: soon asked again."""

    async def story() -> None:
        server = Server()
        async with following(server) as (follower, _):
            await asyncio.sleep(HOUR / 4)
            refused = RefusedError("refuses (403)", 403)
            server.faults = {f"watch {kind} 10": refused for kind in Kind}
            server.go_away(ApiUnreachableError("restarts"))
            server.fault = None
            await asyncio.sleep(31)
            server.faults.clear()
            await asyncio.sleep(31)
            assert condition(follower) is Condition.WATCHING

    run_simulated(story())


def test_the_login_is_refused() -> None:
    """401: a new connection each time, so that a renewed certificate is read; rarely."""

    async def story() -> None:
        server = Server(fault=RefusedError("does not know the login (401)", 401))
        async with following(server) as (follower, told):
            await asyncio.sleep(12 * HOUR)
            assert condition(follower) is Condition.REFUSED
            assert told == []
            assert 45 <= server.connects <= 100

    run_simulated(story())


def test_retry_after() -> None:
    """A server that asks for patience gets it."""

    async def story() -> None:
        server = Server(fault=ApiUnreachableError("429", retry_after_s=1000))
        async with following(server):
            await asyncio.sleep(HOUR)
            assert server.connects <= 4

    run_simulated(story())


def test_a_kept_copy_waits() -> None:
    """Nodes that boot together with a kept copy begin at random within 30 s."""

    async def story() -> None:
        begun = now()
        firsts = []
        for seed in range(40):
            server = Server()
            follower = Follower(
                SOURCE,
                ClusterPart(SOURCE, {}),
                _nobody,
                pace=Pace(random.Random(seed)),
                connect=server.connect,
            )
            task = asyncio.ensure_future(follower.run())
            begun = now()
            await asyncio.sleep(31)
            firsts.append(server.asked[0][0] - begun)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert max(firsts) > 25
        assert min(firsts) < 5

    run_simulated(story())


def test_a_fault_of_ours_is_not_swallowed() -> None:
    """Who is told and fails ends the follower; its owner says so and begins again."""

    async def story() -> None:
        async def fail(_part: ClusterPart) -> None:
            raise RuntimeError("a fault of ours")

        follower = Follower(SOURCE, None, fail, connect=Server().connect)
        with pytest.raises(ExceptionGroup) as caught:
            await follower.run()
        assert caught.group_contains(RuntimeError, match="a fault of ours")

    run_simulated(story())


def test_a_moment_without_a_thread_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if the server were away: said as such, and tried again soon."""

    async def story() -> None:
        server = Server()
        follower = Follower(SOURCE, None, _nobody, pace=Pace(random.Random(7)))
        with monkeypatch.context() as scarce:
            refused = mock.Mock(side_effect=RuntimeError("can't start new thread"))
            scarce.setattr(_thread, "start_new_thread", refused)
            task = asyncio.ensure_future(follower.run())
            await asyncio.sleep(10)
        assert follower.status.detail == "can't start new thread"
        assert condition(follower) is Condition.AWAY
        follower._connect = server.connect
        with mock.patch.object(_Link, "list", side_effect=MemoryError):
            await asyncio.sleep(70)
        assert follower.status.detail == "no memory is left"
        await asyncio.sleep(300)
        assert condition(follower) is Condition.WATCHING
        assert follower.has_watched
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run_simulated(story())


async def test_a_kubeconfig_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, once, and of no server."""
    go_on = threading.Event()
    monkeypatch.setattr(watch, "_connect_now", lambda _: go_on.wait(20))
    monkeypatch.setattr(threads, "SILENT_S", 0.05)
    follower = Follower(SOURCE, None, _nobody)
    task = asyncio.ensure_future(follower.run())
    async with asyncio.timeout(10):
        while condition(follower) is not Condition.AWAY:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    task.cancel()
    go_on.set()
    assert follower.status.detail == "/k: it does not answer"
    said = "Kubernetes: /k: it does not answer; the configuration in force stays"
    assert caplog.messages == [said]


async def _nobody(_part: ClusterPart) -> None:
    return
