"""How connections end when a process has handed over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shimcore.relay import server
from shimcore.relay.route import Route
from shimcore.relay.server import Relay


class FakeConnection:
    """A connection on which `running` calls are under way."""

    def __init__(self, relay: Relay, running: int, *, ready: bool = True) -> None:
        self.running = running
        self.ready = ready
        self.told = 0
        self._all = _connections(relay)
        self._all.add(self)

    def leave(self) -> bool:
        self.told += self.ready
        return self.ready

    def close(self) -> None:
        self._all.discard(self)


def _connections(relay: Relay) -> set[Any]:
    return relay.connections


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    monkeypatch.setattr(server, "RETIRED_IDLE_S", 0.2)

    def never(*_: object) -> Any:
        raise AssertionError

    return Relay(lambda: "/nowhere", lambda _: Route.PASS, never)


async def test_an_idle_client_that_stays_is_closed(relay: Relay) -> None:
    """One that has been told has a while to go; one that cannot be told yet is left."""
    stays, late = FakeConnection(relay, 0), FakeConnection(relay, 0, ready=False)
    retiring = asyncio.ensure_future(relay.retire(30))
    await asyncio.sleep(0.1)
    assert stays in _connections(relay)
    assert stays.told > 1
    await asyncio.sleep(0.4)
    assert _connections(relay) == {late}
    late.ready = True
    await asyncio.wait_for(retiring, 5)


async def test_calls_end_by_themselves_within_the_limit(relay: Relay) -> None:
    """A call, endless or not, keeps its connection; the limit does not."""
    busy, ends = FakeConnection(relay, 2), FakeConnection(relay, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    retiring = asyncio.ensure_future(relay.retire(1.0))
    assert relay.running == 3
    await asyncio.sleep(0.4)
    ends.running = 0
    await retiring
    assert _connections(relay) == {busy}
    assert loop.time() - began < 3
