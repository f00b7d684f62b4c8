"""What fails where no transport hears of it ends the connection: its client is not left waiting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from shimcore.heldcall import AS_IT_CAME, Decision, HeldCall
from shimcore.relay import proxy_connection
from shimcore.relay.clients import Client
from shimcore.relay.connection import Connection
from shimcore.relay.events import Metadata
from shimcore.relay.proxy_connection import ProxyConnection
from shimcore.relay.room import Requests
from shimcore.relay.route import Route
from shimcore.relay.server import Relay
from shimcore.relay.work import Slots, Worker
from tests.support import raw
from tests.support.polling import until

PULL = "/runtime.v1.ImageService/PullImage"


class Later:
    """A held call that is decided on a moment later."""

    async def decide(self) -> Decision:
        await asyncio.sleep(0.01)
        return AS_IT_CAME

    def finished(self, status: int, empty: bool, message: str) -> None:
        """Nothing is learnt from it."""


def open_call(
    path: bytes, message: bytes, timeout_s: float | None, metadata: Metadata
) -> tuple[HeldCall, Decision | None]:
    return Later(), None


class Bed:
    """A relay before a runtime that says nothing; `client` has sent its preface."""

    def __init__(self, folder: Path) -> None:
        self.shim, self.runtime = str(folder / "shim.sock"), str(folder / "runtime.sock")
        self.relay = Relay(lambda: self.runtime, lambda _: Route.OPEN, open_call)
        self.told: list[object] = []

    def fail_once(self, patched: pytest.MonkeyPatch, of: object, name: str) -> None:
        """No memory is left for the next call of it."""
        real, left = getattr(of, name), [MemoryError]

        def fails(*given: Any, **named: Any) -> Any:
            if left:
                raise left.pop()
            return real(*given, **named)

        patched.setattr(of, name, fails)

    async def is_over(self, client: socket.socket) -> None:
        """The client hears of it, the exception handler too, and nothing is left."""
        with contextlib.suppress(ConnectionError):
            await raw.read_until(client, b"never")
        await self.is_gone()

    async def is_gone(self) -> None:
        """The exception handler has heard of it, and nothing is left."""
        async with asyncio.timeout(5):
            while self.relay.connections:
                await asyncio.sleep(0.01)
        assert [type(error) for error in self.told] == [MemoryError]


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    bed, loop = Bed(tmp_path), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: bed.told.append(context.get("exception")))
    async with (
        await loop.create_unix_server(asyncio.Protocol, bed.runtime),
        await loop.create_unix_server(bed.relay.accept, bed.shim),
    ):
        yield bed


@pytest.mark.parametrize(
    ("name", "happens"),
    [
        ("_pace", lambda one: one.client.pause_writing()),
        ("_pace", lambda one: one.upstream.resume_writing()),
        ("_pump", lambda one: one._ack()),
        ("_slice", lambda one: one._relay.turns.later(one)),
        ("feed_blocked", lambda one: one._relay._feed_blocked()),
        ("_go_on_reading", lambda one: one._bear()),
        ("close", lambda one: one._close_in(0)),
        ("_last_of_upstream", lambda one: one.upstream.abort()),
    ],
)
async def test_a_callback(
    bed: Bed,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    happens: Callable[[ProxyConnection], None],
) -> None:
    """Of a transport that goes on all the same, of a timer, of the turns."""
    async with raw.connected(bed.shim) as client:
        await raw.send(client, raw.opening())
        while not bed.relay.connections:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        [one] = bed.relay.connections
        monkeypatch.setattr(Client, "wait_s", lambda *_: 0.01)
        bed.fail_once(monkeypatch, ProxyConnection, name)
        happens(one)
        await bed.is_over(client)


async def test_a_decision(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be applied is not waited for."""
    bed.fail_once(monkeypatch, Connection, "settle")
    async with raw.connected(bed.shim) as client:
        await raw.send(client, raw.opening() + raw.call(1, PULL, b"x"))
        await bed.is_over(client)


async def test_a_call_that_has_waited_for_room(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decision cannot be applied."""
    monkeypatch.setattr(bed.relay, "open_call", mock.Mock(return_value=(Later(), AS_IT_CAME)))
    bed.fail_once(monkeypatch, Connection, "settle")
    async with raw.connected(bed.shim) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Requests, "take", lambda *_: False)
            await raw.send(client, raw.opening() + raw.call(1, PULL, b"x"))
            while not bed.relay.request_room.waiting:
                await asyncio.sleep(0.01)
        bed.relay.request_room.given()
        await bed.is_over(client)


async def test_the_way_to_the_runtime(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of the runtime's is not told as one."""
    bed.fail_once(monkeypatch, proxy_connection, "connected")
    async with raw.connected(bed.shim) as client:
        await raw.send(client, raw.opening())
        await bed.is_over(client)


async def test_a_task_for_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be made takes no slot."""
    slots, told = Slots(each=2, limit=2), list[BaseException]()
    worker = Worker(slots, lambda *_: None, told.append)

    def fails(work: Coroutine[None, None, None]) -> NoReturn:
        work.close()
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "create_task", fails)
        worker.start(1, Later())
    assert [type(error) for error in told] == [MemoryError]
    assert slots.taken == 0


async def test_a_call_that_cannot_be_opened(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a name that a stranger wrote: the call is refused, and the others go on."""
    opened = mock.Mock(side_effect=[MemoryError, (Later(), None)])
    monkeypatch.setattr(bed.relay, "open_call", opened)
    async with raw.connected(bed.shim) as client:
        await raw.send(client, raw.opening() + raw.call(1, PULL, b"x"))
        await raw.send(client, raw.call(3, PULL, b"x"))
        await until(lambda: opened.call_count == 2, "the next call is not opened")
        assert bed.relay.connections
    await bed.is_gone()


async def test_a_decision_that_cannot_be_made(bed: Bed) -> None:
    """The call is refused, and the others of the connection go on."""
    with mock.patch.object(Later, "decide", side_effect=MemoryError):
        async with raw.connected(bed.shim) as client:
            await raw.send(client, raw.opening() + raw.call(1, PULL, b"x"))
            while not bed.told:
                await asyncio.sleep(0.01)
            assert bed.relay.connections
    await bed.is_gone()
