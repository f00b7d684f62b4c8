"""Clients are processes: what one does counts for all of its connections, and a while longer."""

from __future__ import annotations

import os
import socket

import pytest

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.clients import Client, Clients, InCommon
from shimcore.relay.limits import (
    CONNECTS_PER_S,
    CONNECTS_SHARE,
    KEPT_CLIENTS,
    OPEN_CALLS,
    OPEN_SHARE,
    SHARED_CONNECTS,
    SHARED_OPEN,
)
from tests.support.wire import PULL, Wire

ECHO = b"/x/Echo"


def begun(count: int, common: InCommon | None = None) -> Client:
    """A client with so many calls under way."""
    client = Client(common)
    for _ in range(count):
        client.began()
    return client


def test_a_client_is_a_process() -> None:
    """Each connection of it finds the same account, which the kernel tells."""
    clients = Clients()
    near, far = socket.socketpair(socket.AF_UNIX)
    with near, far:
        assert clients.of(near) is clients.of(far) is clients.by_pid(os.getpid())
    assert clients.by_pid(os.getpid()) is not clients.by_pid(os.getpid() + 1)


def test_processes_that_the_kernel_cannot_name_are_one() -> None:
    """A new connection from another PID namespace is no new client."""
    clients = Clients()
    assert clients.by_pid(0) is clients.by_pid(0)


def test_a_debt_stays_when_the_connection_goes() -> None:
    """Whoever connects anew owes what it owed."""
    client = Client()
    for _ in range(2):
        wire = Wire(account=client)
        for stream in range(1, 81, 2):
            wire.open(stream, ECHO)
            wire.client(frames.rst_stream(stream, frames.CANCEL))
        wire.core.close()
    assert client.resets.owed == 80
    assert client.owes
    assert client.open == 0


def test_closing_a_connection_gives_up_its_calls() -> None:
    """Relayed and held ones, if it is the client that closes; the runtime's end costs nothing."""
    client = Client()
    for given_up, owed in ((True, 2), (False, 2)):
        wire = Wire(account=client)
        wire.open(1, ECHO)
        wire.open(3, PULL)
        assert client.open == 2
        wire.core.close(given_up=given_up)
        assert client.open == 0
        assert client.resets.owed == owed


def test_calls_within_the_share_cost_nothing() -> None:
    """However often a client has as many under way."""
    client = Client()
    for _ in range(3):
        for _ in range(OPEN_SHARE):
            client.began()
        for _ in range(OPEN_SHARE):
            client.over()
    assert client.open == client.resets.owed == 0


def test_calls_over_the_share_are_from_what_all_have() -> None:
    """When that is used up each begins at the pace of those given up; others have their shares."""
    common = InCommon()
    many = begun(OPEN_SHARE + SHARED_OPEN, common)
    assert many.resets.owed == 0
    many.began()
    assert many.resets.owed == 1
    assert begun(OPEN_SHARE, common).resets.owed == 0
    assert begun(OPEN_SHARE + 5, common).resets.owed == 5


def test_calls_left_open_count_on_any_connection() -> None:
    """Of one process together."""
    client = Client()
    for _ in range(3):
        wire = Wire(account=client)
        for number in range((OPEN_SHARE + SHARED_OPEN) // 3 + 1):
            wire.open(2 * number + 1, ECHO)
    assert client.open == OPEN_SHARE + SHARED_OPEN + 3
    assert client.resets.owed == 3


def test_what_all_have_is_given_back() -> None:
    """Once the calls are over there is as much of it as before."""
    common = InCommon()
    many = begun(OPEN_SHARE + 9, common)
    assert common.open == 9
    for _ in range(OPEN_SHARE + 9):
        many.over()
    assert many.open == common.open == 0


def test_far_too_many_open_calls() -> None:
    """A process with as many as one connection may have is told to calm down."""
    client = begun(OPEN_CALLS)
    with pytest.raises(FrameError) as caught:
        client.began()
    assert caught.value.h2_code == frames.ENHANCE_YOUR_CALM


def test_connections_have_a_pace() -> None:
    """Of each process; time makes up for them."""
    client = Client()
    begin = [client.may_connect(100.0) for _ in range(CONNECTS_SHARE + 3)]
    assert begin.count(True) == CONNECTS_SHARE + 1
    assert not client.may_connect(100.0)
    assert client.may_connect(100.0 + 2 / CONNECTS_PER_S)


def test_connections_of_all_have_a_pace() -> None:
    """Processes that each make only one are no way around it."""
    common = InCommon()
    begin = [Client(common).may_connect(100.0) for _ in range(SHARED_CONNECTS + 3)]
    assert begin.count(True) == SHARED_CONNECTS
    assert Client(common).may_connect(101.0)


def test_clients_are_forgotten() -> None:
    """Those that have no connection, the longest time first."""
    clients = Clients()
    connected, first = clients.by_pid(1), clients.by_pid(2)
    connected.connections += 1
    for pid in range(3, KEPT_CLIENTS + 1):
        clients.by_pid(pid)
    assert clients.by_pid(2) is first
    clients.by_pid(KEPT_CLIENTS + 1)
    assert clients.by_pid(2) is first  # it has been here after the third
    assert clients.by_pid(1) is connected
    third = clients.by_pid(3)
    third.resets.owe(5)
    assert len(clients) == KEPT_CLIENTS
