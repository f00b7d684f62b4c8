"""Requests that are decided on have room for so many bytes; what does not fit waits in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from shimcore.heldcall import AS_IT_CAME, Decision, Refuse
from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.connection import TOO_MUCH
from shimcore.relay.limits import HELD_SHARE_BYTES
from shimcore.relay.messages import GRPC_RESOURCE_EXHAUSTED
from shimcore.relay.room import Requests, Room
from shimcore.relay.route import Route
from tests.support.wire import Wire, message

Wait = Callable[[str, Requests, int], None]


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def wait(opened: list[str]) -> Wait:
    """Has a call wait whose name is a letter, which is its stream's, too."""

    def one(name: str, requests: Requests, size: int) -> None:
        assert not requests.take(size)
        requests.wait(ord(name), size, partial(opened.append, name))

    return one


async def turns() -> None:
    """Several turns of the event loop."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_does_not_fit_waits_in_turn(wait: Wait, opened: list[str]) -> None:
    """One call of each connection after the other, as others give room back."""
    room = Room(limit=100, share=10)
    first, second, third = Requests(room), Requests(room), Requests(room)
    assert first.take(110)
    wait("a", second, 40)
    wait("b", second, 40)
    wait("c", third, 40)
    await turns()
    assert opened == []
    first.give(50)
    await turns()
    assert opened == ["a"]
    first.give(60)
    await turns()
    assert opened == ["a", "c", "b"]
    second.give(80)
    third.give(40)
    assert (room.budget.used, room.waiting, second.busy) == (0, {}, False)


async def test_a_large_one_is_not_passed_by(wait: Wait, opened: list[str]) -> None:
    """Who comes later has no more than its share until the first that waits has had its turn."""
    room = Room(limit=100, share=10)
    first, large, late = Requests(room), Requests(room), Requests(room)
    assert first.take(60)
    wait("a", large, 100)
    assert late.take(10)
    wait("b", late, 20)
    first.give(20)
    await turns()
    assert opened == []
    first.give(40)
    await turns()
    assert opened == ["a"]
    large.give(100)
    await turns()
    assert opened == ["a", "b"]


async def test_a_share_is_there_for_who_waits(wait: Wait, opened: list[str]) -> None:
    """Its own connection's share, behind another that needs what is in common."""
    room = Room(limit=100, share=10)
    first, large, small = Requests(room), Requests(room), Requests(room)
    assert first.take(110)
    wait("a", large, 50)
    assert small.take(8)
    wait("b", small, 5)
    small.give(8)
    await turns()
    assert opened == ["b"]


async def test_who_is_gone_waits_no_more(wait: Wait, opened: list[str]) -> None:
    """Neither a call that was given up nor a connection that is over keeps others waiting."""
    room = Room(limit=100, share=10)
    first, second, third = Requests(room), Requests(room), Requests(room)
    assert first.take(60)
    wait("a", second, 110)
    wait("b", third, 40)
    second.forget(ord("b"))
    second.forget(ord("a"))
    await turns()
    assert opened == ["b"]
    wait("c", second, 110)
    second.forget_all()
    first.give(60)
    third.give(40)
    await turns()
    assert opened == ["b"]
    assert (room.budget.used, room.waiting) == (0, {})


@pytest.mark.parametrize(
    ("route", "decision"),
    [
        (Route.OPEN, AS_IT_CAME),
        (Route.LONG, AS_IT_CAME),
        (Route.STRICT, Refuse(GRPC_RESOURCE_EXHAUSTED, TOO_MUCH)),
    ],
)
def test_where_too_much_is_held_none_waits(route: Route, decision: Decision) -> None:
    """What there is no room to decide on may wait while it is held; then it goes on unread."""
    wire = Wire(route=route, budget=Budget(limit=-1, share=HELD_SHARE_BYTES))
    wire.announce(frames.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)
    wire.acknowledge()
    wire.upstream(frames.window_update(0, 1 << 20))
    size = 10_000
    for stream in range(1, 2 * (HELD_SHARE_BYTES // size), 2):
        wire.call(stream, bytes(size))
        assert wire.core.without_room(stream) is None
    last = stream + 2
    wire.open(last)
    wire.data(last, message(bytes(size)))
    assert wire.core.requests.held > HELD_SHARE_BYTES
    assert wire.core.without_room(last) == decision
