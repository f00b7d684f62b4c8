"""A client connection and its upstream connection, as two sockets around one core."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from shimcore.errors import FrameError
from shimcore.relay.calls import Calls
from shimcore.relay.clients import Client
from shimcore.relay.connection import TOO_MUCH
from shimcore.relay.lifecycle import MOVES, Change, State
from shimcore.relay.limits import EARLY_BYTES, FREE_BYTES, FREE_FRAMES
from shimcore.relay.messages import GRPC_RESOURCE_EXHAUSTED
from shimcore.relay.peer_socket import PeerSocket
from shimcore.relay.turns import Intake
from shimcore.relay.unavailable import UnavailableServer, away, why_away
from shimcore.unixsocket import connected

if TYPE_CHECKING:
    from shimcore.relay.connection import Connection
    from shimcore.relay.server import Relay

log = logging.getLogger("shimcore.relay")

# How long a closing connection may take to read what is still buffered for it.
LINGER_S = 10.0
# How long a client that has been told that upstream is away has to go.
AWAY_S = 1.0
# How long the answer to a PING may wait for a call's, to go out with it.
ACK_S = 0.005
# How long a connection waits for room in the queue of a runtime that does not accept, and how often
# it tries.
QUEUE_S = 1.0
QUEUE_AGAIN_S = 0.02
# Streams that end only when their client does; a drain does not wait for them.
ENDLESS_METHODS = (b"/GetContainerEvents", b"/Watch", b"/Subscribe")
# How long an unfinished request may hold memory that others need.
BLOCKED_S = 30.0
# How long a client that is slowed is not looked at; it may be gone, or have made up for more.
LOOK_AGAIN_S = 1.0


class ProxyConnection:
    """A client connection and its own upstream connection."""

    def __init__(self, relay: Relay, client: Client) -> None:
        lost = partial(self.safely, self._lost)
        self.client = PeerSocket(self._client_bytes, self._ends, lost, self._room_changed)
        self.upstream = PeerSocket(self._upstream_bytes, self._ends, lost, self._room_changed)
        self.client.on_made = partial(self.safely, self._client_made)
        self.upstream.keeps_rest = True
        self.state = State.CONNECTING
        self._relay = relay
        self._account = client
        self._calls = Calls(relay, client, self._pump, self.broken)
        self._core = self._calls.core
        self._server: Connection | UnavailableServer = self._core  # what the client speaks to
        self._from_client, self._from_upstream = Intake(), Intake()
        self._connecting: asyncio.Task[None] | None = None
        # Until the connection is closed, or aborted where it is closing.
        self._deadline: asyncio.TimerHandle | None = None
        self._left = False  # the client was the first to end the connection
        self._told = False  # to make its new calls elsewhere
        # Reasons for which the client is not read.
        self._answering = False  # it causes answers and does not take them
        self._backpressured = False  # too much of what it has caused waits in the core
        self._paused: asyncio.TimerHandle | None = None  # it may not give up calls until then
        self._ack_due: asyncio.TimerHandle | None = None
        self._asked = False  # for a turn to go on with what is not gone through
        self._blocked_since: float | None = None

    # -- the two connections -----------------------------------------------------------

    def _client_made(self) -> None:
        self._relay.connections.add(self)
        self._relay.accepted += 1
        self._account.connections += 1
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._happened(await self._reach_upstream())
            self._ends()
            self._pace()
        except Exception as error:  # noqa: BLE001 - it is told
            self.broken(error)

    async def _reach_upstream(self) -> Change:
        path = self._relay.upstream()
        try:
            connection = await _connected(path)
            await asyncio.get_running_loop().create_unix_connection(
                lambda: self.upstream, sock=connection
            )
        except OSError as error:
            self._relay.outage.refused(away(path, error))
            self._server = UnavailableServer(partial(why_away, path), self._relay.count_refused)
            return Change.REFUSED
        except asyncio.CancelledError:
            self.upstream.abort()
            raise
        self._relay.outage.over(path)
        return Change.CONNECTED

    def _happened(self, change: Change) -> None:
        """Go to the state that a change leads to, if it leads to another one."""
        state = MOVES.get((self.state, change))
        if state is None:
            return
        self.state = state
        if state is State.CLIENT_ENDED:
            self._calls.cancel()
            self.upstream.write_eof()
        elif state is State.UPSTREAM_ENDED:
            self._end_replies()
            self._close_in(LINGER_S)
        elif state is State.CLOSING:
            self._begin_to_close()
        elif state is State.CLOSED:
            self._let_go()

    @property
    def _client_may(self) -> bool:
        """Whether what comes from the client can be gone through now."""
        waits = self.upstream.full or self._answering or self._backpressured or self._core.inflating
        return not waits and self._paused is None and self.state is not State.CONNECTING

    @property
    def _working(self) -> bool:
        """Whether there is something that can be gone through now."""
        if self.state >= State.CLOSING:
            return False
        return bool(
            (self._from_client and self._client_may)
            or (self._from_upstream and not self.client.full)
            or self._core.inflating
        )

    def _pace(self) -> None:
        """Read from a side only while the other one takes what comes from it."""
        self._answering = self._answering and self.client.full
        if self.state is State.CONNECTING:
            self.client.read(self._from_client.size < EARLY_BYTES)
        else:
            self.client.read(self._client_may and not self._from_client)
        self.upstream.read(not self.client.full and not self._from_upstream)
        if not self._asked and self._working:
            self._asked = True
            self._relay.turns.later(self)

    def _room_changed(self) -> None:
        """A side takes bytes again, or no more for now."""
        try:
            self._pace()
        except Exception as error:  # noqa: BLE001 - it is told
            # Not now: asyncio cannot be told to abort while it resumes.
            asyncio.get_running_loop().call_soon(self.broken, error)

    # -- bytes -------------------------------------------------------------------------

    def _client_bytes(self, data: bytes) -> None:
        if self.state >= State.CLOSING:
            return
        if len(data) > FREE_BYTES or self._from_client or not self._client_may:
            self._from_client.add(data)
            self._ask()
            return
        try:
            more = self._server.from_client(data, FREE_FRAMES)
        except FrameError as error:
            self._fail(error)
            return
        self._pump(of_client=True)
        if more:
            self._from_client.begin()
            self._ask()

    def _upstream_bytes(self, data: bytes) -> None:
        if self.state >= State.CLOSING:
            return
        if len(data) > FREE_BYTES or self._from_upstream:
            self._from_upstream.add(data)
            self._ask()
            return
        try:
            more = self._core.from_upstream(data, FREE_FRAMES)
        except FrameError as error:
            self._fail(error)
            return
        self._pump()
        if more:
            self._from_upstream.begin()
            self._ask()

    def _ask(self) -> None:
        """Have what waits gone through: a slice of it now, if the turn has time left."""
        if not self._asked and self._working:
            self._asked = True
            self._relay.turns.ask(self)
        else:
            self._pace()

    def go_on(self, until: float) -> bool:
        """Go through a slice of what waits; whether there is more that can be."""
        try:
            self._slice(until)
        except FrameError as error:
            self._fail(error)
        self._pace()
        self._asked = self._working
        return self._asked

    def _slice(self, until: float) -> None:
        core, calls, server = self._core, self._calls, self._server
        while core.inflating and self.state < State.CLOSING:
            core.inflate()
            calls.act()
            if perf_counter() >= until:
                break
        while self._from_client and self._client_may and self.state < State.CLOSING:
            self._from_client.step(server.from_client, server.more_from_client)
            calls.act()
            if self._account.owes:
                self._bear()
            if perf_counter() >= until:
                break
        self._pump(of_client=True)
        while self._from_upstream and not self.client.full and self.state < State.CLOSING:
            self._from_upstream.step(core.from_upstream, core.more_from_upstream)
            calls.act()
            if perf_counter() >= until:
                break
        self._pump()
        self._ends()

    def _ends(self) -> None:
        """Take in the end of a side, once what it has sent before is gone through."""
        if self.client.eof and not self._from_client and self.state is not State.CONNECTING:
            self._left = self._left or not self.upstream.eof
            # One that has closed, and not only its own direction, waits for no answer.
            self._happened(Change.CLOSE if self.client.hung_up else Change.CLIENT_END)
        if self.upstream.eof and not self._from_upstream:
            self._happened(Change.UPSTREAM_END)

    def _pump(self, *, of_client: bool = False) -> None:
        """Act on the core's events and send what it has for both sides.

        `of_client`: it has been given bytes of the client's alone.
        """
        core = self._core
        if self.state >= State.CLOSING:
            return
        if core.events:
            self._calls.act()
        # Only now, so that a call decided at once costs each side one write.
        ack_waits = False
        if chunks := core.take_to_upstream():
            self.upstream.write(chunks)
            ack_waits = of_client and core.only_an_ack
        if ack_waits:
            self._wait_with_ack()
        elif chunks := self._server.take_to_client():
            self.client.write(chunks)
            if of_client and self.client.full and not self._answering:
                self._answering = True  # a client that does not take what it causes is not read
                self._pace()
        if core.backpressured != self._backpressured:
            self._backpressured = core.backpressured
            self._pace()
        elif core.inflating and not self._asked:
            self._pace()
        if core.memory_blocked:
            self._relay.watch_blocked()
        if self._account.owes and self._paused is None:
            self._bear()
        if self.state is not State.RELAYING:
            self._pump_further()

    def _wait_with_ack(self) -> None:
        """Answer a PING with what upstream says to the call beside it, or soon: one write less.

        grpc-go sends one with its next request after each answer (RFC 9113 §6.7 asks for no more
        than priority); an answer of its own would wake it once more for nothing.
        """
        if self._ack_due is None:
            self._ack_due = asyncio.get_running_loop().call_later(ACK_S, self._ack)

    def _ack(self) -> None:
        self._ack_due = None
        self.safely(self._pump)

    def _pump_further(self) -> None:
        """What there is to do beside relaying."""
        if self.state is State.UPSTREAM_ENDED:
            self._end_replies()
        elif isinstance(self._server, UnavailableServer) and self._server.answered:
            self._close_in(AWAY_S)

    def _bear(self) -> None:
        """Leave a client unread for a while that begins more calls than it lets finish."""
        loop, client = asyncio.get_running_loop(), self._account
        wait_s = client.wait_s(loop.time())
        if wait_s:
            wait_s = min(wait_s, LOOK_AGAIN_S)
            self._paused = loop.call_later(wait_s, self.safely, self._go_on_reading)
            if not client.slowed:
                client.slowed = True
                log.warning("a client gives up its calls, or leaves them open: it is slowed")
            self._pace()

    def _go_on_reading(self) -> None:
        self._paused = None
        if self.client.hung_up:  # nobody waits for what it has sent
            self._left = True
            self.close()
            return
        if self._account.owes:
            self._bear()
        if self._paused is None:
            self._pace()

    def _fail(self, error: FrameError) -> None:
        """A peer broke a limit: what came before it goes on, and the client is told why."""
        log.warning("closing a client's connection: %s", error)
        self._left = True
        self._server.go_away(error)
        self._pump()
        self.close()

    def feed_blocked(self) -> None:
        """Give held-back credit, or after a while refuse what keeps memory from others."""
        core = self._core
        if not core.memory_blocked or self.state >= State.CLOSING:
            self._blocked_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._blocked_since is None:
            self._blocked_since = now
        core.regrant()
        if core.memory_blocked and now - self._blocked_since > BLOCKED_S and not self._calls.busy:
            for stream in core.gathering[:1]:
                method = core.live.get(stream, b"").decode(errors="replace")
                log.warning("%s is refused: too many bytes of image requests are held", method)
                core.refuse(stream, GRPC_RESOURCE_EXHAUSTED, TOO_MUCH)
        self._pump()

    # -- the end -----------------------------------------------------------------------

    @property
    def working(self) -> bool:
        """Whether a call is under way that a drain waits for."""
        return any(not path.endswith(ENDLESS_METHODS) for path in self._core.live.values())

    @property
    def running(self) -> int:
        """Calls under way, endless ones included; one for a connection that cannot be read."""
        return len(self._core.live) or int(self._core.lost)

    def leave(self) -> bool:
        """Have the client open no more calls here; whether it has been told, once it can be."""
        if not self._told and self.upstream.transport is not None and self.state < State.CLOSING:
            self._told = True
            self._core.go_away()
            self._pump()
        return self._told or self._server is not self._core

    def _end_replies(self) -> None:
        """A server that stops may be gone before the client has made room for an answer."""
        if not self._core.replies_wait:
            self.client.write_eof()

    def _lost(self) -> None:
        """One side is gone; the other ends with what is buffered for it."""
        self._left = self._left or (self.client.gone and not self.upstream.eof)
        self._last_of_upstream()
        if self.upstream.gone and not self.client.eof and self._core.replies_wait:
            self._happened(Change.UPSTREAM_END)
            return
        self.close()
        if self.client.gone and (self.upstream.gone or self.upstream.transport is None):
            self._happened(Change.GONE)

    def _last_of_upstream(self) -> None:
        """Go through what upstream had sent before it was gone, a chunk at the most."""
        core = self._core
        try:
            while self._from_upstream and self.upstream.gone and self.state < State.CLOSING:
                self._from_upstream.step(core.from_upstream, core.more_from_upstream)
        except FrameError as error:
            self._fail(error)
        self._pump()

    def _close_in(self, delay_s: float) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(delay_s, self.safely, self.close)

    def close(self) -> None:
        """End both sides; what is buffered may still go out, for LINGER_S at most."""
        self._happened(Change.CLOSE)

    def _begin_to_close(self) -> None:
        self._core.close(given_up=self._left)
        self._calls.end()
        self._from_client.clear()
        self._from_upstream.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        for timer in (self._deadline, self._paused, self._ack_due):
            if timer is not None:
                timer.cancel()
        self._deadline = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
        self.client.close()
        self.upstream.close()

    def safely(self, work: Callable[[], object]) -> None:
        """Do what no transport has asked for, or does not end for: a fault ends the connection."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is told
            self.broken(error)

    def broken(self, error: BaseException) -> None:
        """What the client waits for may not come any more: it is to hear of that, and so is the
        event loop's exception handler."""
        self.abort()
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a client's connection is closed", "exception": error}
        )

    def abort(self) -> None:
        """End both sides at once."""
        self.client.abort()
        self.upstream.abort()

    def _let_go(self) -> None:
        """Undo the references in circles, so that all is freed now and not at some collection."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._relay.connections.discard(self)
        self._account.connections -= 1
        self.client.let_go()
        self.upstream.let_go()
        self._calls.let_go()


async def _connected(path: str) -> socket.socket:
    """A connection to the runtime; who does not accept just now is waited for. Raises OSError."""
    loop = asyncio.get_running_loop()
    until = loop.time() + QUEUE_S
    while True:
        try:
            return connected(path)
        except BlockingIOError:
            if loop.time() >= until:
                raise
        await asyncio.sleep(QUEUE_AGAIN_S)
