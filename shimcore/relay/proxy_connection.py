"""A client connection and its upstream connection, as two sockets around one core.

Memory of one connection is bounded, whatever its peers do (the names are in `relay.limits`):

- 64 KiB of send buffer for each side, at which the other side's reading stops, and one chunk
  as it was read (256 KiB) on top: 640 KiB, of which an idle connection has none;
- answers of the relay's own: what one slice of the client's frames can cause, 6 MiB of refusals
  at worst, since a client that does not take them is not read either;
- held requests: CONNECTION_LIMIT_BYTES, 25 MiB, of which a client that keeps to its windows
  gets 9 and upstream's connection window (CONNECTION_HELD_BYTES), and 9 MiB more for what
  compressed ones inflate to;
- answers of calls made on the side, and upstream's DATA that waits behind them: REPLY_BYTES,
  10 MiB;
- header tables, blocks and queued frames, and metadata: 12 MiB.

That is 64 MiB against a client that wants to do harm, and 4 KiB for one that is idle. Beyond
each connection's share, the credit for held requests (PROCESS_HELD_BYTES) and the requests on
their way to an answer (PROCESS_REQUEST_BYTES, PROCESS_PULL_BYTES) are bounded for all
connections together.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from time import perf_counter
from typing import TYPE_CHECKING

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.calls import TOO_MUCH, Calls
from shimcore.relay.connection import Connection
from shimcore.relay.limits import EARLY_BYTES, FREE_BYTES, FREE_FRAMES
from shimcore.relay.messages import GRPC_RESOURCE_EXHAUSTED
from shimcore.relay.peer_socket import PeerSocket
from shimcore.relay.turns import Intake
from shimcore.relay.unavailable import UnavailableServer

if TYPE_CHECKING:
    from shimcore.relay.server import Relay

log = logging.getLogger("shimcore.relay")

# How long a closing connection may take to read what is still buffered for it.
LINGER_S = 10.0
# Streams that end only when their client does; a drain does not wait for them.
ENDLESS_METHODS = (b"/GetContainerEvents", b"/Watch")
# How long an unfinished request may hold memory that others need.
BLOCKED_S = 30.0
# Chunks that are copied into one write; past this a copy costs more than a system call.
JOINED_BYTES = 16_384


class ProxyConnection:
    """A client connection and its own upstream connection."""

    def __init__(self, relay: Relay) -> None:
        self.client = PeerSocket(self._client_bytes, self._client_eof, self._lost, self._pace)
        self.upstream = PeerSocket(self._upstream_bytes, self._upstream_eof, self._lost, self._pace)
        self.client.on_made = self._client_made
        self._relay = relay
        self._core = Connection(relay.route, relay.budget, relay.strict, relay.count)
        self._core.watched = relay.observer is not None
        self._calls = Calls(relay, self._core, self._pump)
        self._from_client, self._from_upstream = Intake(), Intake()
        self._asked = False  # for a turn to go on with these
        self._unavailable: UnavailableServer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._open = False  # what the client sends can be taken now
        self._over = False
        self._told = False  # to make its new calls elsewhere
        self._answering = False  # the client causes answers and does not take them
        self._backpressured = False
        self._paused: asyncio.TimerHandle | None = None  # until the client may give up calls
        self._slowed = False
        self._blocked_since: float | None = None

    # -- the two connections -----------------------------------------------------------

    def _client_made(self) -> None:
        self._relay.connections.add(self)
        self._relay.accepted += 1
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        path = self._relay.upstream()
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self.upstream, path)
        except OSError as error:
            log.warning("%s; calls are answered UNAVAILABLE", _away(path, error))
            self._unavailable = UnavailableServer(lambda: _why_away(path))
        except asyncio.CancelledError:
            self.upstream.abort()
            raise
        self._open = True
        if self.client.eof:
            self._client_eof()
        self._pace()

    @property
    def _client_may(self) -> bool:
        """Whether what comes from the client can be gone through now."""
        waits = self.upstream.full or self._answering or self._backpressured or self._core.inflating
        return self._open and not waits and self._paused is None

    @property
    def _working(self) -> bool:
        """Whether there is something that can be gone through now."""
        if self._over:
            return False
        return bool(
            (self._from_client and self._client_may)
            or (self._from_upstream and not self.client.full)
            or self._core.inflating
        )

    def _pace(self) -> None:
        """Read from a side only while the other one takes what comes from it."""
        self._answering = self._answering and self.client.full
        if self._open:
            self.client.read(self._client_may and not self._from_client)
        else:
            self.client.read(self._from_client.size < EARLY_BYTES)
        self.upstream.read(not self.client.full and not self._from_upstream)
        if not self._asked and self._working:
            self._asked = True
            self._relay.turns.later(self)

    # -- bytes -------------------------------------------------------------------------

    def _client_bytes(self, data: bytes) -> None:
        if self._over:
            return
        if len(data) > FREE_BYTES or self._from_client or not self._client_may:
            self._from_client.add(data)
            self._ask()
            return
        try:
            more = self._feed_client(data, FREE_FRAMES)
        except FrameError as error:
            self._fail(error)
            return
        self._pump(of_client=True)
        if more:
            self._from_client.begin()
            self._ask()

    def _upstream_bytes(self, data: bytes) -> None:
        if self._over:
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

    def _feed_client(self, data: bytes, limit: int) -> bool:
        if self._unavailable is None:
            return self._core.from_client(data, limit)
        return self._unavailable.feed(data, limit)

    def _more_of_client(self, limit: int) -> bool:
        if self._unavailable is None:
            return self._core.more_from_client(limit)
        return self._unavailable.go_on(limit)

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
        core, calls = self._core, self._calls
        while core.inflating and not self._over:
            core.inflate()
            calls.act()
            if perf_counter() >= until:
                break
        while self._from_client and self._client_may and not self._over:
            self._from_client.step(self._feed_client, self._more_of_client)
            calls.act()
            if core.resets.owed:
                self._bear_resets()
            if perf_counter() >= until:
                break
        self._pump(of_client=True)
        while self._from_upstream and not self.client.full and not self._over:
            self._from_upstream.step(core.from_upstream, core.more_from_upstream)
            calls.act()
            if perf_counter() >= until:
                break
        self._pump()
        self._ends()

    def _ends(self) -> None:
        """Take in the end of a side, once what it has sent before is gone through."""
        if self.client.eof and not self._from_client:
            self._client_eof()
        if self.upstream.eof and not self._from_upstream:
            self._upstream_eof()

    def _answer(self, chunks: list[bytes]) -> None:
        """Send what the client itself has caused; one that does not take it is not read."""
        _write(self.client, chunks)
        if chunks and self.client.full and not self._answering:
            self._answering = True
            self._pace()

    def _pump(self, *, of_client: bool = False) -> None:
        """Act on the core's events and send what it has for both sides.

        `of_client`: it has been given bytes of the client's alone.
        """
        core = self._core
        if self._over:
            return
        self._calls.act()
        # Only now, so that a call decided at once costs each side one write.
        _write(self.upstream, core.take_to_upstream())
        if of_client:
            self._answer(core.take_to_client())
        else:
            _write(self.client, core.take_to_client())
        if self._unavailable is not None:
            self._answer_unavailable(self._unavailable)
        if core.backpressured != self._backpressured:
            self._backpressured = core.backpressured
            self._pace()
        elif core.inflating and not self._asked:
            self._pace()
        if core.memory_blocked:
            self._relay.watch_blocked()
        if core.resets.owed and self._paused is None:
            self._bear_resets()
        if self.upstream.eof and not self._from_upstream:
            self._end_replies()

    def _bear_resets(self) -> None:
        """Leave a client unread for a while that gives up more calls than it may."""
        loop = asyncio.get_running_loop()
        wait_s = self._core.resets.wait_s(self._relay.resets, loop.time())
        if wait_s:
            self._paused = loop.call_later(wait_s, self._go_on_reading)
            if not self._slowed:
                self._slowed = True
                log.warning("a client gives up its calls as fast as it makes them: it is slowed")
            self._pace()

    def _go_on_reading(self) -> None:
        self._paused = None
        self._pace()

    def _answer_unavailable(self, server: UnavailableServer) -> None:
        self._answer(server.take())
        if server.answered and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(1.0, self.close)

    def _fail(self, error: FrameError) -> None:
        """A peer broke a limit: what came before it goes on, and the client is told why."""
        log.warning("closing a client's connection: %s", error)
        if self._unavailable is None:
            self._core.go_away(error)
            self._pump()
        else:
            self.client.write(frames.goaway(0, error.h2_code, str(error)))
        self.close()

    def feed_blocked(self) -> None:
        """Give held-back credit, or after a while refuse what keeps memory from others."""
        core = self._core
        if not core.memory_blocked or self._over:
            self._blocked_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._blocked_since is None:
            self._blocked_since = now
        core.regrant()
        if core.memory_blocked and now - self._blocked_since > BLOCKED_S and not self._calls.busy:
            for stream in core.gathering[:1]:
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

    def go_away(self) -> None:
        """Tell the client to open no more calls here."""
        if self.upstream.transport is not None and not self._over:
            self._core.go_away()
            self._pump()

    def leave(self) -> bool:
        """`go_away`, once, as soon as it can be told; whether the client has been told."""
        if not self._told and self.upstream.transport is not None and not self._over:
            self._told = True
            self.go_away()
        return self._told or self._unavailable is not None

    def _client_eof(self) -> None:
        """The client sends no more: held calls are given up, upstream is told the same."""
        if not self._open or self._from_client:
            return
        self._calls.cancel()
        if self.upstream.transport is None:
            self.close()
        else:
            self.upstream.write_eof()
            self._close_when_done()

    def _upstream_eof(self) -> None:
        """Upstream sends no more. What it has sent still reaches the client."""
        if self._from_upstream:
            return
        self._end_replies()
        self._close_when_done()
        if not self._over and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def _end_replies(self) -> None:
        """A server that stops may be gone before the client has made room for an answer."""
        if not self._core.replies_wait:
            self.client.write_eof()

    def _close_when_done(self) -> None:
        if self.client.eof and self.upstream.eof:
            self.close()

    def _lost(self) -> None:
        """One side is gone; the other ends with what is buffered for it."""
        self._last_of_upstream()
        if self.upstream.gone and not self.client.eof and self._core.replies_wait:
            self._upstream_eof()
            return
        self.close()
        if self.client.gone and (self.upstream.gone or self.upstream.transport is None):
            if self._linger is not None:
                self._linger.cancel()
            self._relay.connections.discard(self)
            self._let_go()

    def _last_of_upstream(self) -> None:
        """Go through what upstream had sent before it was gone, a chunk at the most."""
        core = self._core
        try:
            while self._from_upstream and self.upstream.gone and not self._over:
                self._from_upstream.step(core.from_upstream, core.more_from_upstream)
        except FrameError as error:
            self._fail(error)
        self._pump()

    def _let_go(self) -> None:
        """Undo the references in circles, so that all is freed now and not at some collection."""
        self.client.let_go()
        self.upstream.let_go()
        self._calls.let_go()

    def close(self) -> None:
        """End both sides; what is buffered may still go out, for LINGER_S at most."""
        if self._over:
            return
        self._over = True
        self._calls.cancel()
        self._core.close()
        self._calls.end()
        self._from_client.clear()
        self._from_upstream.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        for timer in (self._linger, self._paused):
            if timer is not None:
                timer.cancel()
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
        self.client.close()
        self.upstream.close()

    def abort(self) -> None:
        """End both sides at once."""
        self.client.abort()
        self.upstream.abort()


def _write(side: PeerSocket, chunks: list[bytes]) -> None:
    """Send chunks with one system call where they are small, without a copy where not."""
    if len(chunks) > 1 and sum(map(len, chunks)) <= JOINED_BYTES:
        side.write(b"".join(chunks))
        return
    for chunk in chunks:
        side.write(chunk)


def _why_away(path: str) -> str | None:
    """Why nobody accepts at the runtime's socket now; None when somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as error:
            return _away(path, error)
    return None


def _away(path: str, error: OSError) -> str:
    return (
        f"image-cri-shim: the container runtime at {path} cannot be reached "
        f"({error.strerror or error}); see whether it is running"
    )
