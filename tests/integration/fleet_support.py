"""What tests of a roll-out share: the stand-in API server, nodes, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shimcore.fleet import agent, slots
from shimcore.fleet.records import Records
from tests.support.fleetapi import NAMESPACE, FleetApi
from tests.support.fleetnode import DirectApi, FleetNode


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node looks every few milliseconds."""
    monkeypatch.setattr(slots, "_SHORTEST_S", 0.05)
    monkeypatch.setattr(slots, "STILL_S", 0.2)
    monkeypatch.setattr(agent, "_SOON_S", 0.02)
    monkeypatch.setattr(agent, "_SOAK_LOOK_S", 0.02)
    monkeypatch.setattr(agent, "_RETRY_S", 0.05)


@pytest.fixture
def api() -> FleetApi:
    started = FleetApi()
    started.prepare()
    return started


class AtOnce:
    """Counts how many nodes switch at the same time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.order: list[str] = []

    def of(self, name: str) -> Callable[[str], None]:
        def note(what: str) -> None:
            self.now += 1 if what == "began" else -1
            self.most = max(self.most, self.now)
            if what == "began":
                self.order.append(name)

        return note


@asynccontextmanager
async def fleet(
    folder: Path, api: FleetApi, names: list[str], control_planes: int = 0
) -> AsyncIterator[list[FleetNode]]:
    """The nodes; what runs on them is ended."""
    nodes = [
        FleetNode(folder, name, api, control_plane=number < control_planes)
        for number, name in enumerate(names)
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.kill()
            if node.switch.running is not None:
                node.switch.running.cancel()


@asynccontextmanager
async def hook(api: FleetApi) -> AsyncIterator[Records]:
    """What the pre-delete hook works with."""
    client = DirectApi(api)
    yield Records(client, NAMESPACE, "image-cri-shim")
    await client.aclose()


async def until(true: Callable[[], object], within_s: float = 60) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail("it does not come about")


def healthy(nodes: list[FleetNode], revision: str = "r1", version: str = "1.0.0") -> bool:
    wanted = {"state": f"{version}.healthy", "version": version, "revision": revision}
    return all(node.labels == wanted for node in nodes)
