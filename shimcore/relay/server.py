"""The asyncio shell of the relay: all connections, what they share, and how they drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from shimcore.heldcall import Decision, HeldCall
from shimcore.relay import limits
from shimcore.relay.clients import Client, Clients
from shimcore.relay.connection import held_budget
from shimcore.relay.events import Metadata
from shimcore.relay.proxy_connection import ProxyConnection
from shimcore.relay.room import Room
from shimcore.relay.route import Route
from shimcore.relay.turns import Turns
from shimcore.relay.unavailable import Outage
from shimcore.relay.work import Slots

# How long connections may take to close at the end of a drain.
DRAIN_LINGER_S = 1.0
# How long clients that have been told of a drain may keep connections on which nothing runs: a call
# that was under way to here then, on a connection new or old, is still taken.
DRAIN_IDLE_S = 0.3
# How long a client that has been told to go elsewhere may keep a connection on which nothing runs.
RETIRED_IDLE_S = 10.0
_LOOK_S = 0.05


class Observer(Protocol):
    """Is told of every call where somebody counts them."""

    def began(self, path: bytes) -> None:
        """A call has begun."""

    def ended(self, path: bytes, status: int, seconds: float) -> None:
        """A call is over, with its gRPC status and how long it took."""

    def refused(self) -> None:
        """A call, of whatever method, was answered UNAVAILABLE in the runtime's place."""


OpenCall = Callable[[bytes, bytes, float | None, Metadata], tuple[HeldCall, Decision | None]]


class Relay:
    """All connections of the shim: what they share, and how they end.

    `upstream` gives the runtime's socket path; `route` says which methods are opened, and
    `open_call` makes a held call of (path, message, seconds left, metadata) of each, with the
    decision on it if there is one at once.
    `strict` says whether `route` calls any method strict now: connections that cannot be
    read are closed then.
    """

    def __init__(
        self,
        upstream: Callable[[], str],
        route: Callable[[bytes], Route],
        open_call: OpenCall,
        strict: Callable[[], bool] = lambda: False,
    ) -> None:
        self.upstream = upstream
        self.route = route
        self.open_call = open_call
        self.strict = strict
        self.budget = held_budget()
        self.pull_slots = Slots(
            limits.CONNECTION_PULLS_IN_WORK,
            limits.PROCESS_PULLS_IN_WORK,
            limits.SHARE_OF_PULLS_IN_WORK,
        )
        self.slots = Slots(
            limits.CONNECTION_CALLS_IN_WORK,
            limits.PROCESS_CALLS_IN_WORK,
            limits.SHARE_OF_CALLS_IN_WORK,
        )
        # For image calls that are decided on; the first for pulls, the second for others.
        self.pull_room = Room(limits.PROCESS_PULL_BYTES, limits.PULL_SHARE_BYTES)
        self.request_room = Room(limits.PROCESS_REQUEST_BYTES, limits.REQUEST_SHARE_BYTES)
        self.turns = Turns()
        self.clients = Clients()
        self.connections: set[ProxyConnection] = set()
        self.calls: dict[bytes, int] = {}
        self.accepted = 0
        self.observer: Observer | None = None  # of connections that come from now on
        self.outage = Outage()
        self._blocked: asyncio.TimerHandle | None = None

    def accept(self, connection: socket.socket | None = None) -> asyncio.Protocol:
        """The protocol of a new client connection (a factory for `create_unix_server`).

        Without its socket it is a client of its own.
        """
        client = Client(self.clients.common) if connection is None else self.clients.of(connection)
        return ProxyConnection(self, client).client

    def count(self, path: bytes) -> None:
        """Count a call by its method."""
        calls = self.calls
        if path in calls or len(calls) < limits.COUNTED_METHODS:
            calls[path] = calls.get(path, 0) + 1

    def count_refused(self) -> None:
        """Count a call that the runtime is not there for; nobody has read its method."""
        if self.observer is not None:
            self.observer.refused()

    def watch_blocked(self) -> None:
        """Look after connections that lack memory for their requests, until none does."""
        if self._blocked is None:
            self._blocked = asyncio.get_running_loop().call_later(1.0, self._feed_blocked)

    def _feed_blocked(self) -> None:
        self._blocked = None
        for connection in list(self.connections):
            connection.safely(connection.feed_blocked)

    @property
    def running(self) -> int:
        """How many calls are under way, endless streams included."""
        return sum(connection.running for connection in self.connections)

    async def retire(self, limit_s: float) -> None:
        """Have clients make their new calls elsewhere, and let all end that runs here.

        Watches too, `limit_s` seconds at most. A client is told once, as soon as it can be; it
        closes its connection when its last call here has ended (RFC 9113 §6.8).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        idle_since: dict[ProxyConnection, float] = {}
        while self.connections and loop.time() < deadline:
            for connection in list(self.connections):
                if connection.leave() and not connection.running:
                    since = idle_since.setdefault(connection, loop.time())
                    if loop.time() - since > RETIRED_IDLE_S:
                        connection.close()
                else:
                    idle_since.pop(connection, None)
            await asyncio.sleep(_LOOK_S)

    async def drain(self, grace_s: float) -> None:
        """Let running calls end, `grace_s` seconds at most, then close every connection.

        Clients are told to open no more calls here, and have a moment to take notice.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        # What has just been accepted is a connection within this time.
        await asyncio.sleep(_LOOK_S)
        quiet_since = loop.time()
        # A drain looks on from outside: calls do not pay for being watched.
        while self.connections and loop.time() < deadline:
            connections = list(self.connections)
            told = [connection.leave() for connection in connections]
            if not all(told) or any(connection.working for connection in connections):
                quiet_since = loop.time()
            elif loop.time() - quiet_since > DRAIN_IDLE_S:
                break
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.close()
        last = loop.time() + DRAIN_LINGER_S
        while self.connections and loop.time() < last:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._blocked is not None:
            self._blocked.cancel()
