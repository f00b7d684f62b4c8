"""A node's way to a slot, where others and the network come in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimcore.fleet import api as client
from shimcore.fleet.api import Api
from shimcore.fleet.queue import Queue
from shimcore.fleet.records import Records
from shimcore.fleet.switchfiles import SwitchFiles
from tests.support.fleetapi import LEASES, MAPS, NAMESPACE, FleetApi, fleet_api
from tests.support.fleetnode import DirectApi

SLOT = f"{LEASES}/image-cri-shim-slot-0"


@pytest.fixture
def api() -> Iterator[FleetApi]:
    with fleet_api() as started:
        started.prepare()
        started.add_node("a")
        yield started


async def holder(api: FleetApi, folder: Path) -> Queue:
    """A queue whose node has the first slot."""
    queue = Queue(Records(DirectApi(api), NAMESPACE, "image-cri-shim"), SwitchFiles(folder), "a")
    assert await take(queue)
    assert api.holders() == {0: "a"}
    return queue


async def take(queue: Queue) -> bool:
    records = queue.records
    return await queue.try_once(await records.wanted(), await records.rollout(), "")


@pytest.mark.parametrize("cleared", [False, True])
async def test_another_takes_it_between(api: FleetApi, tmp_path: Path, cleared: bool) -> None:
    """No switch begins where another got the slot between the look and the renewal."""
    queue = await holder(api, tmp_path)
    if cleared:
        api.put(SLOT, {"spec": {}})
    spec = {"holderIdentity": "b", "leaseDurationSeconds": 300}

    def overtake(method: str, path: str) -> None:
        if (method, path) == ("PATCH", SLOT) and api.holders() != {0: "b"}:
            api.put(SLOT, {"spec": spec})

    api.fault = overtake
    assert not await queue.confirm(await queue.records.wanted())
    assert api.holders() == {0: "b"}
    await queue.renew()
    assert queue.held is None


async def test_a_lost_answer_is_no_second_slot(
    api: FleetApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A take that was done, but whose answer was lost, is one."""
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.01)
    api.want("r1", wave="50")
    api.put(f"{MAPS}/image-cri-shim-rollout", {"data": {"enough": "r1"}})
    for number in range(9):
        api.add_node(f"n{number}")
    asked = Api(api.place(tmp_path))
    queue = Queue(
        Records(asked, NAMESPACE, "image-cri-shim"), SwitchFiles(tmp_path), "a", random.Random(1)
    )
    await queue.count()
    faults = iter([503])
    api.lost = True
    api.fault = lambda method, path: next(faults, None) if method == "PATCH" else None
    assert await take(queue)
    await asked.aclose()
    assert queue.held is not None
    assert api.holders() == {queue.held.slot: "a"}


async def test_a_deleted_lease(
    api: FleetApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its holder goes on, and begins nothing; it has it again with the Lease, else leaves it."""
    queue = await holder(api, tmp_path)
    wanted = await queue.records.wanted()
    del api.objects[SLOT]
    for _ in range(3):
        assert not await queue.confirm(wanted)
    assert queue.held is not None
    assert caplog.text.count("Leases are not all there") == 1
    again = Queue(queue.records, queue.files, "a")
    await again.recall()
    assert again.held == queue.held
    api.put(SLOT, {"spec": {}})
    assert await queue.confirm(wanted)
    assert api.holders() == {0: "a"}
    del api.objects[SLOT]
    await queue.release()
    assert queue.files.held() is None
