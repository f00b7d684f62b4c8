"""Connections begin in turn: at each process's pace, and not at all if their client is gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from unittest import mock

import pytest

from shimcore.daemon import arrivals
from shimcore.daemon.arrivals import Arrivals
from shimcore.relay.clients import Client, Clients
from shimcore.relay.limits import CONNECTS_SHARE
from tests.support.polling import until


class ByNumber(Clients):
    """Clients of which the test says which a connection belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: dict[socket.socket, int] = {}

    def of(self, connection: socket.socket) -> Client:
        """The one that the test has named."""
        return self.by_pid(self.pids[connection])


class Bed:
    """Arrivals, and what has begun of them."""

    def __init__(self, kept: contextlib.ExitStack) -> None:
        self.clients = ByNumber()
        self.begun: list[int] = []
        self.arrivals = Arrivals(self.clients, self._begin)
        self._kept = kept

    def _begin(self, connection: socket.socket) -> None:
        self.begun.append(self.clients.pids[connection])

    def arrive(self, pid: int, count: int = 1) -> list[socket.socket]:
        """Connections of a process; the client's ends of those that were taken."""
        ends = []
        for _ in range(count):
            near, far = socket.socketpair(socket.AF_UNIX)
            self._kept.callback(near.close)
            self._kept.callback(far.close)
            near.setblocking(False)
            self.clients.pids[near] = pid
            if self.arrivals.add(near):
                ends.append(far)
        return ends

    async def settle(self, begun: int) -> None:
        """So many have begun, and no more do so."""
        await until(lambda: len(self.begun) >= begun, "not all begin that may")
        await asyncio.sleep(0.05)


@pytest.fixture
def kept() -> Iterator[contextlib.ExitStack]:
    """Sockets, until the end of the test."""
    with contextlib.ExitStack() as stack:
        yield stack


async def test_a_connection_begins_at_once(kept: contextlib.ExitStack) -> None:
    """In the next turn, when nobody is in a hurry."""
    bed = Bed(kept)
    bed.arrive(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bed.begun == [1]
    assert not len(bed.arrivals)


async def test_nobody_waits_for_all_of_anothers(kept: contextlib.ExitStack) -> None:
    """One of each process in turn."""
    bed = Bed(kept)
    bed.arrive(1, 6)
    bed.arrive(2, 2)
    await bed.settle(8)
    assert bed.begun.index(2) <= 2
    assert sorted(bed.begun) == [1] * 6 + [2] * 2


async def test_a_process_at_its_pace_waits_and_others_do_not(kept: contextlib.ExitStack) -> None:
    """Its connections begin as time makes up for those before them."""
    bed = Bed(kept)
    now = asyncio.get_running_loop().time()
    bed.clients.by_pid(1).connects.owe(CONNECTS_SHARE + 51)
    bed.clients.by_pid(1).connects.wait_s(now)
    bed.arrive(1, 2)
    await bed.settle(0)
    bed.arrive(2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert bed.begun == [2]  # without a while in between
    bed.arrive(2)
    await bed.settle(2)
    assert bed.begun == [2, 2]
    await bed.settle(4)
    assert bed.begun == [2, 2, 1, 1]


async def test_one_that_is_closed_already_is_not_begun(kept: contextlib.ExitStack) -> None:
    """Nor does it count; one with something to read is begun."""
    bed = Bed(kept)
    (left,) = bed.arrive(1)
    (last,) = bed.arrive(1)
    left.close()
    last.send(b"PRI")
    await bed.settle(1)
    assert bed.begun == [1]
    assert bed.clients.by_pid(1).connects.owed == 1


async def test_too_many_of_one_process_are_not_taken(
    kept: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another one are."""
    monkeypatch.setattr(arrivals, "WAITING_OF_ONE", 30)
    bed = Bed(kept)
    assert len(bed.arrive(1, 35)) == 30
    assert len(bed.arrive(2, 5)) == 5
    assert len(bed.arrivals) == 35
    bed.arrivals.close()


async def test_the_end_begins_those_that_wait(kept: contextlib.ExitStack) -> None:
    """Whoever was taken is told by its own connection where to go, pace or not."""
    bed = Bed(kept)
    bed.arrive(1, CONNECTS_SHARE + 5)
    bed.arrivals.close()
    assert bed.begun == [1] * (CONNECTS_SHARE + 5)
    await bed.settle(CONNECTS_SHARE + 5)
    assert len(bed.begun) == CONNECTS_SHARE + 5


async def test_a_connection_whose_process_cannot_be_told(kept: contextlib.ExitStack) -> None:
    """It is not taken: it is gone."""
    bed = Bed(kept)
    with mock.patch.object(bed.clients, "of", side_effect=OSError):
        assert not bed.arrive(1)
