"""What others reach of this process: its two listening sockets, and its metrics.

It can be left to a successor, and taken back (`shimcore.daemon.handover`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from shimcore.config import Config
from shimcore.daemon.accepting import Acceptor
from shimcore.daemon.admin import AdminServer
from shimcore.daemon.handover import HandOver, HandOverError
from shimcore.daemon.logs import Lines
from shimcore.daemon.shim import Shim
from shimcore.daemon.sockets import ListeningSocket, elsewhere
from shimcore.errors import SocketInUseError

if TYPE_CHECKING:
    from shimcore.daemon.metrics import MetricsServer

# How long the admin socket may take to be gone from its path.
_GONE_S = 2.0
# For the call that asked for the hand-over: it is answered by the process that hands over.
_ANSWERED_S = 30.0


class FrontSettings(NamedTuple):
    """What does not change in a process's life."""

    path: str
    """The configuration file."""
    config: Config
    inherited: list[socket.socket]
    """Systemd's sockets."""
    most_connections: int
    lines: Lines


class Front:
    """Both paths are claimed by making one; then `start`, `open`, and `close` at the end.

    Raises SocketInUseError where another process has a path, and ShimError.
    """

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._sockets = _claimed(settings)
        self.others = elsewhere(settings.config.shim_socket, settings.inherited)
        """Systemd's sockets at other paths, as where `shim` has been changed: accepted on, too."""
        self._metrics: MetricsServer | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._acceptors: list[Acceptor] = []

    @property
    def acceptor(self) -> Acceptor | None:
        """Of the listening socket; None while nobody is accepted."""
        return self._acceptors[0] if self._acceptors else None

    @property
    def socket(self) -> socket.socket | None:
        """The listening socket where systemd holds it, too: what can be handed over."""
        return self._sockets.listening.inherited

    @property
    def admin(self) -> AdminServer:
        """The admin service."""
        return self._sockets.admin

    async def start(self) -> None:
        """Answer on the admin socket. Raises ShimError."""
        await self.admin.start()

    async def open(self, shim: Shim, hand_over: HandOver) -> None:
        """Accept clients from now on. Raises ShimError."""
        settings, listening = self._settings, self._sockets.listening
        address = settings.config.metrics
        if address is not None and self._metrics is None:
            from shimcore.daemon.metrics import MetricsServer  # noqa: PLC0415 - costs memory

            self._metrics = MetricsServer(shim, address, lambda: settings.lines.dropped)
            shim.relay.observer = self._metrics.calls
        if self._metrics is not None:
            await self._metrics.open()
        accepting = listening.listen()
        listening.take_access_of(shim.runtime_socket)

        def room(beginning: int) -> bool:
            return len(shim.relay.connections) + beginning < settings.most_connections

        relay = shim.relay
        self._acceptors = [
            Acceptor(each, relay.accept, room, "clients", relay.clients)
            for each in (accepting, *self.others)
        ]
        await self.admin.show(shim, hand_over)

    def stop_accepting(self) -> None:
        """Take no more clients; the shim is reported as stopping."""
        self.admin.draining()
        self._stop_accepting()
        for each in (self._sockets.listening.socket, *self.others):
            if each is not None:
                each.close()

    async def leave(self) -> None:
        """Give up all of it to another process, apart from the socket that systemd holds.

        Raises HandOverError.
        """
        self._stop_accepting()
        # The one who asked for this is answered when it is done.
        loop = asyncio.get_running_loop()
        self._stopping = loop.create_task(self.admin.stop(_ANSWERED_S))
        path, until = self._sockets.admin_socket.path, loop.time() + _GONE_S
        while os.path.lexists(path):  # noqa: ASYNC240 - grpc takes it away, at once
            if loop.time() > until:
                raise HandOverError(f"admin socket {path}: it cannot be given up")
            await asyncio.sleep(0.01)
        self._give_up()

    async def come_back(self, shim: Shim, hand_over: HandOver) -> None:
        """Take back what was left, all of it or a part, once the other process has let go of it.

        Raises ShimError.
        """
        self._give_up()
        loop = asyncio.get_running_loop()
        until = loop.time() + _GONE_S
        while True:
            try:
                self._sockets = _claimed(self._settings)
                break
            except SocketInUseError:
                if loop.time() > until:
                    raise
            await asyncio.sleep(0.02)
        await self.start()
        await self.open(shim, hand_over)

    async def close(self) -> None:
        """End all of it; what is not another process's goes."""
        self._stop_accepting()
        if self._stopping is not None:
            await asyncio.wait({self._stopping})
        await self.admin.stop()
        self._sockets.admin_socket.close()
        self._sockets.listening.close()

    def _give_up(self) -> None:
        self._sockets.admin_socket.give_up()
        self._sockets.listening.give_up()

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors = []
        if self._metrics is not None:
            self._metrics.close()


class _Sockets(NamedTuple):
    listening: ListeningSocket
    admin_socket: ListeningSocket
    admin: AdminServer


def _claimed(settings: FrontSettings) -> _Sockets:
    config = settings.config
    with contextlib.ExitStack() as taken:
        listening = ListeningSocket(config.shim_socket, settings.inherited)
        taken.callback(listening.close)
        admin_socket = ListeningSocket(config.admin_socket)
        taken.pop_all()
    return _Sockets(listening, admin_socket, AdminServer(admin_socket, settings.path, config))
