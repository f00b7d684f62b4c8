"""Connections that have been accepted and not begun: a few in a turn, fair between processes.

Beginning one costs more than accepting it, and the runtime as much again. So a process that
connects as fast as it can waits at its own pace, and everybody else's next one comes before
its second. One that its client has closed meanwhile is not begun at all.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from shimcore.relay.clients import Client, Clients

# Connections begun in one turn of the loop: 2 ms, as `relay.limits.TURN_S`.
BEGUN_AT_ONCE = 2
# Of one process, how many wait: a crowd of 1,000 at once is served, one after the other.
WAITING_OF_ONE = 1_024
# Until somebody who waits at a pace is looked at again.
LOOK_AGAIN_S = 0.01


class Arrivals:
    """Connections that wait to be begun, by the process that made them."""

    def __init__(self, clients: Clients, begin: Callable[[socket.socket], None]) -> None:
        self._clients = clients
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[Client, deque[socket.socket]] = OrderedDict()
        self._next: asyncio.Handle | None = None
        self._later = False  # the next turn is after a while

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, connection: socket.socket) -> bool:
        """One more, whose turn comes; False when too many of its process's wait."""
        try:
            client = self._clients.of(connection)
        except OSError:  # it is gone already
            return False
        waiting = self._waiting.setdefault(client, deque())
        if len(waiting) >= WAITING_OF_ONE:
            return False
        waiting.append(connection)
        if self._next is None or (self._later and len(waiting) == 1):
            self._soon()
        return True

    def _soon(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next, self._later = self._loop.call_soon(self._turn), False

    def close(self) -> None:
        """Begin those that wait, out of turn, and no more: their clients are told where to go."""
        if self._next is not None:
            self._next.cancel()
        for connections in self._waiting.values():
            for connection in connections:
                self._begin(connection)
        self._waiting.clear()

    def _turn(self) -> None:
        self._next = None
        begun = 0
        try:
            for connection in self._due():
                self._begin(connection)
                begun += 1
                if begun == BEGUN_AT_ONCE:
                    break
        finally:  # whatever fails, the others wait for no next one to arrive
            if self._waiting and begun:
                self._soon()
            elif self._waiting:
                self._next, self._later = self._loop.call_later(LOOK_AGAIN_S, self._turn), True

    def _due(self) -> Iterator[socket.socket]:
        """Those that may begin now, one of each process in turn."""
        now = self._loop.time()
        for client in list(self._waiting):
            waiting = self._waiting[client]
            while waiting and _gone(waiting[0]):
                waiting.popleft().close()
            if waiting and client.may_connect(now):
                connection = waiting.popleft()
                self._waiting.move_to_end(client)
                if not waiting:
                    del self._waiting[client]
                yield connection
            elif not waiting:
                del self._waiting[client]


def _gone(connection: socket.socket) -> bool:
    """Whether the client has closed it, and sent nothing before that."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
