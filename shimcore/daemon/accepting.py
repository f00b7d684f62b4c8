"""Accepts connections: as many as there is room for, never in circles when the kernel refuses."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from shimcore.daemon.arrivals import Arrivals
from shimcore.lines import Seldom
from shimcore.relay.clients import Clients

log = logging.getLogger("shimcore.daemon")

# Connections taken in one turn of the loop; the others of a flood wait for the next.
AT_ONCE = 32
# How long nothing is accepted after the kernel has refused, usually for want of descriptors.
PAUSE_S = 0.5


class Acceptor:
    """Takes connections from a listening socket and gives each to a protocol of its own.

    `room` says whether one more may come, apart from those that are just being taken up, whose
    number it is given; one that finds none is closed at once, so that its client knows. With
    `clients`, the processes that connect to a unix socket, those of one wait behind others'.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[socket.socket], asyncio.BaseProtocol],
        room: Callable[[int], bool],
        what: str,
        clients: Clients | None = None,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._room = room
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._arrivals: Arrivals | None = None
        if clients is not None:
            self._arrivals = Arrivals(clients, partial(self._or_refuse, self._start))
        self._paused: asyncio.TimerHandle | None = None
        self._refused = Seldom()
        self.accepted = 0
        """Connections taken from the socket, those included that were closed at once."""
        self._open = True
        self._resume()

    def close(self) -> None:
        """Accept no more; the socket is its owner's to close."""
        self._open = False
        self._loop.remove_reader(self._listening)
        if self._paused is not None:
            self._paused.cancel()
        if self._arrivals is not None:
            self._arrivals.close()

    def _ready(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except (OSError, MemoryError) as error:
                self._pause(error)
                return
            self._or_refuse(self._take, connection)

    def _or_refuse(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        """Closed at once where no memory is left: a traceback would hold it for a while."""
        try:
            work(connection)
        except MemoryError as error:
            self._refuse(connection, error)

    def _take(self, connection: socket.socket) -> None:
        self.accepted += 1
        arrivals = self._arrivals
        waiting = 0 if arrivals is None else len(arrivals)
        if not self._room(len(self._beginning) + waiting):
            self._refuse(connection, "as many as can be served are open")
            return
        connection.setblocking(False)
        if arrivals is None:
            self._start(connection)
        elif not arrivals.add(connection):
            self._refuse(connection, "one process connects faster than it can be served")

    def _start(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._begin(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            protocol = self._protocol(connection)
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except (OSError, MemoryError) as error:
            self._refuse(connection, error)

    def _pause(self, error: OSError | MemoryError) -> None:
        self._paused = self._loop.call_later(PAUSE_S, self._resume)
        self._loop.remove_reader(self._listening)
        self._say(error)

    def _resume(self) -> None:
        self._paused = None
        if self._open:
            try:
                self._loop.add_reader(self._listening, self._ready)
            except (OSError, MemoryError) as error:
                self._pause(error)

    def _refuse(self, connection: socket.socket, why: str | OSError | MemoryError) -> None:
        connection.close()
        self._say(why)

    def _say(self, why: str | OSError | MemoryError) -> None:
        if isinstance(why, MemoryError):
            why = "no memory is left"
        elif isinstance(why, OSError):
            why = why.strerror or str(why)
        if times := self._refused.happened():
            log.warning("%s: %d connections were not taken: %s", self._what, times, why)
