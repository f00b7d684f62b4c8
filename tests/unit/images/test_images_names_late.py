"""Names given after the pull was given up, the shim killed, or the image removed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.config import Names
from shimcore.heldcall import Forward
from shimcore.images import names as names_module
from shimcore.reference import parse_reference
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.support.polling import until
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    OTHER_DIGEST,
    PULL,
    REMOVE,
    Bench,
    failed,
    pull_request,
    remove_request,
)
from tests.unit.images.nginx import AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST, bench_of

_DOMAINS = "docker.io", "quay.io"


async def _given_up(bench: Bench, *pulled: tuple[str, ...]) -> None:
    """A pull that is cancelled, of which the runtime has these names (and digests) all the same."""
    bench.runtime.hanging.add(HUB)
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    await until(lambda: bench.runtime.pulls, "the runtime is asked for no pull")
    for each in pulled:
        bench.runtime.pulled(*each)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _until_at_rest(bench: Bench) -> None:
    """Returns when no pull is looked after any more."""
    await until(lambda: not (bench.names._late or bench.names._tasks), "its looks do not end")


class TestGivenUp:
    """A pull that was cancelled may have ended well in the runtime all the same."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(names_module, "LATE_S", (0.01, 0.05))
        monkeypatch.setattr(names_module, "AGAIN_S", (0.1, 0.1, 0.1))

    async def test_its_names_are_seen_to(self) -> None:
        """The image gets its own name, and the hub's goes."""
        bench = bench_of(Names.ORIGINAL)
        await _given_up(bench, (AT_HUB,))
        await until(lambda: bench.runtime.names() == {NGINX, NGINX_DIGEST}, bench.runtime.names)

    async def test_a_disk_that_hangs_holds_up_no_names(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the repository: what is left is seen to meanwhile, and the journal told later."""
        bench, go_on = bench_of(Names.ORIGINAL), asyncio.Event()
        ended = bench.names._journal.ended

        async def hangs(image: str, candidate: str) -> None:
            await go_on.wait()
            await ended(image, candidate)

        monkeypatch.setattr(bench.names._journal, "ended", hangs)
        monkeypatch.setattr(names_module, "LATE_S", ())  # it is looked after at once
        await _given_up(bench, (AT_HUB,))
        await until(lambda: bench.runtime.names() == {NGINX, NGINX_DIGEST}, bench.runtime.names)
        async with asyncio.timeout(5):
            await bench.names.settled(parse_reference(NGINX))
        assert bench.names._journal.unfinished()
        go_on.set()
        await _until_at_rest(bench)
        assert bench.names._journal.unfinished() == []

    async def test_a_killed_shim_leaves_it_to_the_next(self, tmp_path: Path) -> None:
        """The journal has it: what came before the kill is named and cleared by the new one."""
        bench = bench_of(Names.ORIGINAL)
        bench.journal = str(tmp_path / "state" / "pulls.journal")
        bench.restart()
        task = await bench.hanging_pull()
        bench.runtime.pulled(AT_HUB)
        bench.restart()  # the old one never gets to its end
        await bench.recover()
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
        assert bench.names._journal.unfinished() == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_or_to_the_retried_pull(self, tmp_path: Path) -> None:
        """kubelet comes first: its pull takes the older one's names for its own."""
        bench = bench_of(Names.ORIGINAL)
        bench.journal = str(tmp_path / "pulls.journal")
        bench.restart()
        task = await bench.hanging_pull()
        bench.runtime.pulled(AT_HUB)
        bench.runtime.hanging.clear()
        bench.restart()
        await bench.names._journal.load(bench.journal)
        await bench.pull("nginx")
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_the_runtime_goes_away_in_between(self) -> None:
        """What could not be taken away goes when it is back, and nothing is open then."""
        bench = bench_of(Names.ORIGINAL)
        delete, looks = bench.runtime.store.delete, 0

        async def once(name: str) -> bool:
            nonlocal looks
            if name == AT_HUB:
                looks += 1
                if looks <= 4:  # the answer's own, both looks soon after it, and one more
                    raise failed("transport is closing", StatusCode.UNAVAILABLE)
            return await delete(name)

        bench.runtime.store.delete = once  # type: ignore[method-assign]
        await bench.pull("nginx")
        assert AT_HUB in bench.runtime.names()
        await _until_at_rest(bench)
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
        assert looks == 5
        assert bench.names._journal.unfinished() == []

    async def test_its_name_leads_elsewhere_by_then(self) -> None:
        """A tag that has moved: it stays, and the older image has the name of its digest."""
        bench = bench_of(Names.ORIGINAL)
        await _given_up(bench, (AT_HUB,), (NGINX, OTHER_DIGEST))
        names = {NGINX, NGINX_DIGEST, f"docker.io/library/nginx@{OTHER_DIGEST}"}
        await until(lambda: bench.runtime.names() == names, bench.runtime.names)
        assert bench.runtime.records[NGINX].target.digest == OTHER_DIGEST

    async def test_one_is_looked_after_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However often an image is pulled whose names cannot be given."""
        monkeypatch.setattr(names_module, "LATE_S", ())
        monkeypatch.setattr(names_module, "AGAIN_S", (60.0,))
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
        for _ in range(5):
            await bench.pull("nginx")
        await asyncio.sleep(0.01)
        assert len(bench.names._late) == 1
        await bench.names.close()
        assert bench.names._looked_after == {}

    async def test_one_that_is_open_holds_no_other_back(self) -> None:
        """Its names are gone with the next pull of the same: it is over then."""
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
        await bench.pull("nginx")
        await asyncio.sleep(0.1)
        bench.runtime.store_fault = None
        await bench.pull("nginx")
        assert bench.names._pulls == set()
        assert bench.names._journal.unfinished() == []
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
        await bench.names.close()

    @pytest.mark.parametrize("looks", [(0.05,), ()], ids=["soon", "later"])
    @pytest.mark.parametrize("digest", [DIGEST, OTHER_DIGEST])
    async def test_an_image_without_its_name_keeps_the_registrys(
        self, monkeypatch: pytest.MonkeyPatch, looks: tuple[float, ...], digest: str
    ) -> None:
        """Until it has its own: another image that is pulled as the same takes none of them away,
        though it comes first."""
        monkeypatch.setattr(names_module, "LATE_S", looks)
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
        await bench.pull("docker.io/team/app:1")
        bench.runtime.store_fault, bench.runtime.digest = None, digest
        await bench.pull("quay.io/team/app:1")
        assert {f"{HUB}/team/app:1", "quay.io/team/app:1"} < bench.runtime.names()
        await _until_at_rest(bench)
        names = {f"{domain}/team/app{end}" for domain in _DOMAINS for end in (":1", f"@{digest}")}
        old = {f"{HUB}/team/app@{DIGEST}"} if digest != DIGEST else set()
        assert bench.runtime.names() == names | old
        assert bench.names._journal.unfinished() == []

    async def test_two_of_them_are_named_both(self, tmp_path: Path) -> None:
        """By this process, and by the next."""
        for restarted in (False, True):
            bench = bench_of(Names.ORIGINAL)
            bench.journal = str(tmp_path / f"journal-{restarted}")
            bench.restart()
            bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
            for domain in _DOMAINS:
                await bench.pull(f"{domain}/team/app:1")
            if restarted:
                await bench.names.close()
                bench.restart()
            bench.runtime.store_fault = None
            if restarted:
                await bench.recover()
            await _until_at_rest(bench)
            assert bench.runtime.names() == {
                f"{domain}/team/app{end}" for domain in _DOMAINS for end in (":1", f"@{DIGEST}")
            }
            assert bench.names._journal.unfinished() == []


async def test_shim_killed_between_pull_and_naming() -> None:
    """A new shim, with all registries down, mends it at the next question."""
    bench = bench_of(Names.BOTH)
    call = bench.service.open(PULL, pull_request("nginx"), None)
    await call.decide()
    for name in (NGINX, NGINX_DIGEST):
        bench.runtime.records.pop(name, None)
    bench.registries.default = Outcome.UNREACHABLE
    bench.registries.outcomes.clear()
    bench.restart()
    assert await bench.status("nginx") == "nginx"
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}


async def test_shim_killed_between_the_two_names() -> None:
    """The digest's name was given, the one that people write was not: that is what is mended."""
    bench = bench_of(Names.BOTH)
    await bench.pull("nginx")
    del bench.runtime.records[NGINX]
    bench.restart()
    assert await bench.status("nginx") == "nginx"


async def test_mending_never_moves_a_name() -> None:
    """A question may add a name, not lead one elsewhere."""
    bench = bench_of(Names.BOTH)
    bench.runtime.pulled(AT_HUB, OTHER_DIGEST)
    bench.runtime.records[NGINX_DIGEST] = replace(bench.runtime.records[AT_HUB], name=NGINX_DIGEST)
    updated: list[str] = []
    bench.runtime.on_update = updated.append
    await bench.status("nginx")
    assert updated == []


class TestRemoval:
    """An image that is being named after a pull that was given up, and removed meanwhile."""

    async def test_it_does_not_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The removal waits for the naming, and no other begins until it is over."""
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.pulled(AT_HUB)
        bench.runtime.hidden = {NGINX: 3}
        asked = asyncio.create_task(bench.status("nginx"))
        while not bench.names.mending:
            await asyncio.sleep(0)
        call = bench.service.open(REMOVE, remove_request("nginx"), None)
        decision = call.decide_now() or await call.decide()
        assert isinstance(decision, Forward)
        assert len(bench.names._mends) == 0
        bench.runtime.records.clear()
        call.finished(0, True, "")
        await asked
        await bench.names.drain()
        assert bench.runtime.names() == set()

    @pytest.mark.parametrize("image", ["nginx", "sha256:" + "1" * 64])
    async def test_nothing_is_named_while_something_is_removed(self, image: str) -> None:
        """By name or by ID; after it, it is again."""
        bench = bench_of(Names.ORIGINAL)
        call = bench.service.open(REMOVE, remove_request(image), None)
        assert isinstance(call.decide_now() or await call.decide(), Forward)
        bench.runtime.pulled(AT_HUB)
        assert await bench.status("nginx") == AT_HUB
        assert NGINX not in bench.runtime.names()
        call.finished(0, True, "")
        bench.names._failed.drop(NGINX)
        assert await bench.status("nginx") == "nginx"

    async def test_what_was_found_in_the_middle_of_it_is_looked_at_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pull that was given up: its names have come while another image was removed."""
        monkeypatch.setattr(names_module, "LATE_S", (0.01, 0.1))
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.hanging.add(HUB)
        task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
        await until(lambda: bench.runtime.pulls, "the runtime is asked for no pull")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bench.runtime.pulled(AT_HUB)
        call = bench.service.open(REMOVE, remove_request("sha256:" + "1" * 64), None)
        assert isinstance(call.decide_now(), Forward)
        await asyncio.sleep(0.05)
        assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}
        call.finished(0, True, "")
        await until(lambda: not bench.names._late, "its looks do not end")
        assert bench.runtime.names() == {NGINX, NGINX_DIGEST}

    async def test_a_removal_whose_caller_is_gone_is_over(self) -> None:
        """It holds nothing up."""
        bench = bench_of(Names.ORIGINAL)
        bench.runtime.hidden = {NGINX: 10_000}
        bench.runtime.pulled(AT_HUB)
        asked = asyncio.create_task(bench.status("nginx"))
        await asyncio.sleep(0.05)  # in the middle of it
        call = bench.service.open(REMOVE, remove_request("nginx"), None)
        assert call.decide_now() is None
        task = asyncio.create_task(call.decide())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not bench.names.removals.under_way
        bench.runtime.hidden.clear()
        await asked
