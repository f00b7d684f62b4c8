"""Pulls that are one, and callers who wait for them, go away or are late."""

from __future__ import annotations

import asyncio
import gc

import pytest

from shimcore.config import Names
from shimcore.heldcall import Answer, Refuse
from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    PULL,
    Bench,
    answered,
    config_of,
    failed,
    image_id,
    pull_request,
    pulled_as,
)
from tests.unit.images.nginx import AT_HUB, CALLERS, both, for_pod


class TestSharing:
    async def test_equal_pulls_are_one(self) -> None:
        """Ten callers with equal requests make one pull; one that goes ends only its own wait."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.05
        tasks = [asyncio.create_task(bench.decide(PULL, pull_request("nginx"))) for _ in range(10)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        decisions = await asyncio.gather(*tasks[1:])
        assert bench.service.stats()["rewrites"] == {(HUB, "pulled"): 1}
        assert {answered(decision) for decision in decisions} == {image_id(DIGEST)}
        assert pulled_as(bench) == [AT_HUB]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await bench.names.drain()

    async def test_one_that_comes_as_the_last_caller_goes(self) -> None:
        """It begins anew: what the cancelled pull has tried says nothing of the registries."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.05
        first = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
        await asyncio.sleep(0.02)
        first.cancel()
        await asyncio.sleep(0)
        assert answered(await bench.decide(PULL, pull_request("nginx"))) == image_id(DIGEST)
        assert set(pulled_as(bench)) == {AT_HUB}
        await bench.names.drain()

    async def test_the_sandboxs_metadata_makes_no_difference(self) -> None:
        """Pods differ in it, and in annotations that are nothing to the runtime."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.02
        requests = [for_pod(f"pod-{i}", {"team": str(i)}) for i in range(5)]
        await asyncio.gather(*(bench.decide(PULL, request) for request in requests))
        assert pulled_as(bench) == [AT_HUB]
        await bench.names.drain()

    async def test_another_snapshotter_is_another_pull(self) -> None:
        """A runtime handler, or its old annotation, unpacks elsewhere."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.02
        handler = cri_pb2.PullImageRequest.FromString(pull_request("nginx"))
        handler.image.runtime_handler = "kata"
        requests = [
            pull_request("nginx"),
            handler.SerializeToString(),
            for_pod("p", {"io.containerd.cri.runtime-handler": "kata"}),
        ]
        await asyncio.gather(*(bench.decide(PULL, request) for request in requests))
        assert pulled_as(bench) == [AT_HUB] * 3
        await bench.names.drain()

    async def test_two_tenants(self) -> None:
        """A private image at its own registry goes to the pod with the login, not to the other."""
        bench = Bench()
        bench.runtime.pull_s = 0.02

        async def registry(request: cri_pb2.PullImageRequest) -> None:
            if request.auth.password != "callers-own-secret":
                raise failed("401 Unauthorized", StatusCode.UNAUTHENTICATED)

        bench.runtime.pull_steps["docker.io"] = registry
        asked = [pull_request("team/private"), pull_request("team/private", **CALLERS)]
        nobody, owner = await asyncio.gather(*(bench.decide(PULL, one) for one in asked))
        assert isinstance(nobody, Refuse)
        assert nobody.code == StatusCode.UNAUTHENTICATED
        assert isinstance(owner, Answer)

    async def test_each_callers_deadline_is_its_own(self) -> None:
        """One is over, and says what was being done; the other gets the image."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.1
        patient = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
        hasty = await bench.decide(PULL, pull_request("nginx"), 0.02)
        assert isinstance(hasty, Refuse)
        assert hasty.code == StatusCode.DEADLINE_EXCEEDED
        assert answered(await patient) == image_id(DIGEST)
        assert pulled_as(bench) == [AT_HUB]
        await bench.names.drain()


async def test_the_wait_for_a_slot_is_the_callers_time() -> None:
    """A pull whose deadline is over by then asks nobody for anything more."""
    bench = Bench(registries=both())
    bench.runtime.hanging.add(HUB)
    call = bench.service.open(PULL, pull_request("nginx"), 0.05)
    assert call.decide_now() is None
    await asyncio.sleep(0.1)
    decision = await call.decide()
    assert isinstance(decision, Refuse)
    assert decision.code == StatusCode.DEADLINE_EXCEEDED
    assert pulled_as(bench) == []


async def test_a_caller_goes_as_the_runtimes_failure_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody hears of it, and nothing is said of an exception that nobody has asked for."""
    bench = Bench(registries=both())
    ends = asyncio.Event()

    async def fails(_: cri_pb2.PullImageRequest) -> None:
        await ends.wait()
        raise failed("not found", StatusCode.NOT_FOUND)

    bench.runtime.pull_steps[HUB] = fails
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    while not bench.runtime.pulls:
        await asyncio.sleep(0.01)
    ends.set()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bench.names.close()
    del task
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_cancelled_caller_ends_work_on_the_side_at_once() -> None:
    """The pull in the runtime is cancelled, and nothing is left running but the look after it."""
    bench = Bench(registries=both(), config=config_of(names=Names.BOTH))
    bench.runtime.hanging.add(HUB)
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    async with asyncio.timeout(5):
        while not bench.runtime.pulls:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.001)
    assert bench.runtime.cancelled == [AT_HUB]
    ((_, record),) = bench.service._context.history.since(0)
    told = {(one.host, one.result) for one in record.attempts}
    assert told == set(bench.service.stats()["rewrites"])
    assert told == {(HUB, "cancelled"), ("last.local:5000", "absent")}
