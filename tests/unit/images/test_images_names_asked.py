"""Names of a registry that somebody pulls as such, while other pulls bring and take the same."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.config import Names, Registry
from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import Decision, Forward
from shimcore.images import names as names_module
from shimcore.images.call import ImageCall
from shimcore.pb import cri_pb2
from shimcore.reference import Reference
from shimcore.registry.answers import ManifestAnswer, Outcome
from tests.support.polling import until
from tests.unit.images.fakes import (
    CREATE,
    DIGEST,
    HUB,
    PULL,
    THREE,
    Bench,
    FakeRegistries,
    config_of,
    create_request,
    failed,
    image_id,
    pull_request,
)
from tests.unit.images.nginx import AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST, bench_of

ALL = {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "LATE_S", (0.05, 0.1))
    monkeypatch.setattr(names_module, "AGAIN_S", ())


def begun(bench: Bench, name: str = AT_HUB) -> ImageCall:
    """A pull of a name as such that has gone on as it came."""
    call = bench.service.open(PULL, pull_request(name), None)
    assert isinstance(call.decide_now(), Forward)
    return call


def ended(bench: Bench, call: ImageCall, name: str = AT_HUB) -> None:
    """The runtime has pulled it."""
    bench.runtime.pulled(name)
    call.finished(0, False, "")


async def interrupted(bench: Bench) -> None:
    """A pull of nginx in which the runtime goes away."""

    async def gone(_: cri_pb2.PullImageRequest) -> None:
        raise RuntimeUnavailableError("socket closed")

    bench.runtime.pull_steps[HUB] = gone
    await bench.decide(PULL, pull_request("nginx"))
    bench.runtime.pull_steps.clear()


async def hanging(bench: Bench) -> asyncio.Task[Decision]:
    """A pull of nginx that does not end, and stands in the journal; others do."""
    task = await bench.hanging_pull()
    bench.runtime.hanging.clear()
    return task


class TestAnOlderPullIsOpen:
    """Nobody knows how it ended: what it brought is told by the time alone."""

    @pytest.mark.parametrize("again", [True, False])
    async def test_it_takes_nothing_away(
        self, again: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At a question about its image, and at the next pull of that."""
        monkeypatch.setattr(names_module, "LATE_S", ())
        bench = bench_of(Names.ORIGINAL)
        await interrupted(bench)
        await asyncio.sleep(0.01)
        assert len(bench.names._journal.unfinished()) == 1
        await bench.pull(AT_HUB)
        await (bench.pull("nginx") if again else bench.status("nginx"))
        await bench.names.drain()
        assert bench.runtime.names() == ALL

    async def test_it_is_looked_at_when_another_was_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it brought goes; the other tag stays, and the digest that is that one's, too."""
        monkeypatch.setattr(names_module, "LATE_S", ())
        monkeypatch.setattr(names_module, "AGAIN_S", (0.1,))
        bench = bench_of(Names.ORIGINAL)
        await interrupted(bench)
        bench.runtime.pulled(AT_HUB)
        other = f"{HUB}/library/nginx:other"
        await bench.pull(other)
        await until(lambda: not (bench.names._late or bench.names._tasks), "its looks do not end")
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST, HUB_DIGEST, other}

    async def test_nor_does_the_next_process(self, tmp_path: Path) -> None:
        """The journal says since when."""
        bench = bench_of(Names.ORIGINAL)
        bench.journal = str(tmp_path / "pulls.journal")
        bench.restart()
        task = await hanging(bench)
        ended(bench, begun(bench))
        await bench.names.drain()
        bench.restart()
        await bench.recover()
        assert {AT_HUB, HUB_DIGEST} <= bench.runtime.names()
        task.cancel()
        await asyncio.sleep(0.3)

    async def test_while_it_is_looked_after(self, tmp_path: Path) -> None:
        """A pull that begins and ends while the next process looks at what was left."""
        bench = bench_of(Names.ORIGINAL)
        bench.journal = str(tmp_path / "pulls.journal")
        bench.restart()
        task = await hanging(bench)
        bench.restart()
        recovery = asyncio.create_task(bench.recover())
        await until(lambda: bench.names._pulls, "what was left is not looked after")
        ended(bench, begun(bench))
        await recovery
        assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}
        task.cancel()
        await asyncio.sleep(0.3)


class TestWhileAnotherIsNamed:
    """The names that it brought are chosen, taken, and seen to be gone."""

    async def test_it_ends_while_a_container_is_made(self) -> None:
        """Its name is there again when the other pull's names are taken: it stays."""
        bench = bench_of(Names.ORIGINAL)
        await bench.pull("nginx")
        container = bench.service.open(CREATE, create_request(image_id(DIGEST), "nginx"), None)
        assert isinstance(container.decide_now(), Forward)
        again = asyncio.create_task(bench.pull("nginx"))
        while HUB_DIGEST not in bench.runtime.names():
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        ended(bench, begun(bench))
        container.finished(0, False, "")
        await again
        assert bench.runtime.names() == ALL

    async def test_it_begins_as_they_are_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nobody waits for a name to go that comes again."""
        bench = bench_of(Names.ORIGINAL)
        delete, calls = bench.runtime.store.delete, list[ImageCall]()

        async def slow(name: str) -> bool:
            if not calls:
                calls.append(begun(bench))
            gone = await delete(name)
            if len(bench.runtime.deleted) == 1:
                ended(bench, calls[0])
            return gone

        bench.runtime.store.delete = slow  # type: ignore[method-assign]
        async with asyncio.timeout(3):
            await bench.pull("nginx")
        assert bench.runtime.names() == ALL
        assert bench.runtime.deleted == [HUB_DIGEST]
        assert "keeps the name" not in caplog.text

    async def test_another_pull_brings_them_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """One that begins while the runtime still shows what was taken away."""
        bench = bench_of(Names.ORIGINAL)
        status, shown = bench.runtime.image_status, asyncio.Event()
        others: list[asyncio.Task[object]] = []

        async def late(image: str, *, timeout_s: float | None) -> object:
            there = await status(image, timeout_s=timeout_s)
            if there is None or shown.is_set() or not bench.runtime.deleted:
                return there
            if not others:
                message = pull_request("nginx", username="me", password="mine-mine")
                others.append(asyncio.create_task(bench.decide(PULL, message)))
                bench.runtime.pull_steps[HUB] = lambda _: shown.wait()  # type: ignore[assignment,return-value]
            return replace(there, repo_tags=(*there.repo_tags, AT_HUB))

        bench.runtime.image_status = late  # type: ignore[method-assign,assignment]
        async with asyncio.timeout(3):
            await bench.decide(PULL, pull_request("nginx"))
            shown.set()
            await others[0]
        await bench.names.drain()
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
        assert "keeps the name" not in caplog.text

    async def test_many_begin(self, caplog: pytest.LogCaptureFixture) -> None:
        """Other tags of the repository, one after the other, while a pull is named."""
        bench = bench_of(Names.ORIGINAL)
        get = bench.runtime.store.get

        async def slow(name: str) -> object:
            await asyncio.sleep(0.003)
            return await get(name)

        bench.runtime.store.get = slow  # type: ignore[method-assign,assignment]
        pull = asyncio.create_task(bench.pull("nginx"))
        tags = 0
        while not pull.done() and tags < 30:
            tags += 1
            name = f"{HUB}/library/nginx:v{tags}"
            call = begun(bench, name)
            await asyncio.sleep(0.002)
            ended(bench, call, name)
        await pull
        assert AT_HUB not in bench.runtime.names()
        assert {NGINX, NGINX_DIGEST, HUB_DIGEST} <= bench.runtime.names()
        ours = [each for each in caplog.records if each.name.startswith("shimcore")]
        assert not [each for each in ours if each.levelno > logging.WARNING]

    async def test_one_that_fails(self) -> None:
        """Nobody has it: it keeps nothing."""
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.pull_s = 0.02
        pull = asyncio.create_task(bench.pull("nginx"))
        while not bench.runtime.pulls:
            await asyncio.sleep(0)
        begun(bench).finished(5, False, "not found")
        await pull
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_the_digests_name_was_there_before() -> None:
    """Where another pull has taken the tag's name, the digest's is still held against the time."""
    bench = bench_of(Names.ORIGINAL)
    await bench.pull(HUB_DIGEST)
    bench.runtime.pull_s = 0.01
    message = pull_request("nginx", username="me", password="mine-mine")
    await asyncio.gather(bench.pull("nginx"), bench.decide(PULL, message))
    await bench.names.drain()
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, HUB_DIGEST}


class TestNeverRewritten:
    """A name that goes on as it came is asked for, whatever the reason."""

    async def test_an_excluded_one(self) -> None:
        """`exclude` covers the hub's own names."""
        bench = bench_of(Names.ORIGINAL)
        bench.config = config_of(f'{THREE}exclude: ["{HUB}/**"]\n', names=Names.ORIGINAL)
        bench.restart()
        bench.runtime.pull_s = 0.02
        pull = asyncio.create_task(bench.pull("nginx"))
        await asyncio.sleep(0.01)
        ended(bench, begun(bench))
        await pull
        assert bench.runtime.names() == ALL

    async def test_one_that_another_registry_gives(self) -> None:
        """quay.io serves ghcr.io's images, too: its own were pulled through the hub meanwhile."""
        quay = '- {address: "https://quay.io", domains: ["quay.io", "ghcr.io"]}'
        bench = Bench(
            config=config_of(f"address: http://{HUB}\nregistries:\n{quay}\n", names=Names.ORIGINAL),
            registries=_Everywhere({HUB: Outcome.FOUND}),
        )
        bench.runtime.failing[f"{HUB}/org/app:1"] = failed("500")
        held = asyncio.Event()
        bench.runtime.pull_steps["quay.io"] = lambda _: held.wait()  # type: ignore[assignment,return-value]
        other = asyncio.create_task(bench.pull("ghcr.io/org/app:1"))
        while len(bench.runtime.pulls) < 2:
            await asyncio.sleep(0.01)
        bench.runtime.failing.clear()
        await bench.decide(PULL, pull_request("quay.io/org/app:1"))
        held.set()
        await other
        names = {name for name in bench.runtime.names() if "@" not in name}
        assert names == {"quay.io/org/app:1", "ghcr.io/org/app:1"}
        assert f"quay.io/org/app@{DIGEST}" in bench.runtime.names()


class _Everywhere(FakeRegistries):
    """Every registry has every image."""

    async def head_manifest(self, registry: Registry, image: Reference) -> ManifestAnswer:
        answer = await super().head_manifest(registry, image)
        return replace(answer, outcome=Outcome.FOUND, digest=DIGEST)
