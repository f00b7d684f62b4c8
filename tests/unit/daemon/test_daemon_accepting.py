"""Where no memory is left, connections are closed or wait, and the log has a line a minute."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimcore.daemon import accepting
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.arrivals import Arrivals
from shimcore.relay.clients import Client, Clients
from tests.support import raw

WAITS = [(asyncio.SelectorEventLoop, "add_reader"), (socket.socket, "accept")]
CLOSED = [(Acceptor, "_take"), (Acceptor, "_start"), (Clients, "of")]
NOT_TAKEN = "shim: 1 connections were not taken: no memory is left"


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


@contextlib.asynccontextmanager
async def accepted(path: str) -> AsyncIterator[Acceptor]:
    """Each is greeted; nothing that fails reaches the event loop."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.setblocking(False)
        listening.bind(path)
        listening.listen()
        made = Acceptor(listening, lambda _: Greeting(), lambda _: True, "shim", Clients())
        yield made
        made.close()
    assert not told


def fail_once(patched: pytest.MonkeyPatch, of: type, name: str) -> None:
    real, left = getattr(of, name), [MemoryError]

    def fails(*given: object) -> object:
        if left:
            raise left.pop()
        return real(*given)

    patched.setattr(of, name, fails)


@pytest.mark.parametrize(("of", "name"), WAITS + CLOSED)
async def test_no_memory(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    of: type,
    name: str,
) -> None:
    """One that is not accepted yet waits, one that is hears of it at once; the next is served."""
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)
    path = str(tmp_path / "shim.sock")
    fail_once(monkeypatch, of, name)
    async with accepted(path):
        for number in range(2):
            async with raw.connected(path) as client:
                served = number > 0 or (of, name) in WAITS
                assert await raw.read_until(client, b"hello", 5) == b"hello" * served
    assert [record.getMessage() for record in caplog.records] == [NOT_TAKEN]


async def test_a_turn_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for one has the next, without another that arrives."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    begun: list[socket.socket] = []
    near, far = socket.socketpair(socket.AF_UNIX)
    with near, far:
        near.setblocking(False)
        fail_once(monkeypatch, Client, "may_connect")
        arrivals = Arrivals(Clients(), begun.append)
        assert arrivals.add(near)
        async with asyncio.timeout(5):
            while not begun:
                await asyncio.sleep(0.01)
    assert begun == [near]
    assert len(told) == 1
