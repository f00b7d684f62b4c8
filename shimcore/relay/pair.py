"""A client connection and its upstream connection, as two sockets around one core.

Memory of one connection is bounded, whatever its peers do (the names are in `relay.limits`):

- 64 KiB of send buffer for each side, at which the other side's reading stops, and one chunk
  as it was read (256 KiB) on top: 640 KiB, of which an idle connection has none;
- answers of the relay's own: what one chunk of the client can cause, 12 MiB of refusals at
  worst, since a client that does not take them is not read either;
- held requests: CONNECTION_LIMIT_BYTES, 66 MiB, of which a client that keeps to its windows
  gets 33 and upstream's connection window (CONNECTION_HELD_BYTES), and 33 MiB more for what
  compressed ones inflate to;
- answers of calls made on the side, and upstream's DATA that waits behind them: REPLY_BYTES,
  34 MiB;
- header tables, blocks and queued frames, and metadata: 13 MiB.

That is 160 MiB against a client that wants to do harm, and 4 KiB for one that is idle. The
credit for held requests (PROCESS_HELD_BYTES) and the requests on their way to an answer
(PROCESS_REQUEST_BYTES) are bounded for all connections together.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.connection import Connection
from shimcore.relay.events import (
    CallCancelled,
    CallEnded,
    CallReady,
    Event,
    Notice,
    StreamBegan,
    StreamEnded,
)
from shimcore.relay.limits import EARLY_BYTES, PROCESS_REQUEST_BYTES
from shimcore.relay.side import Side
from shimcore.relay.unavailable import UnavailableServer
from shimcore.relay.work import Answer, Decision, HeldCall, Refusal, Worker

if TYPE_CHECKING:
    from shimcore.relay.shell import Observer, Relay

log = logging.getLogger("shimcore.relay")

# How long a closing connection may take to read what is still buffered for it.
LINGER_S = 10.0
# Streams that end only when their client does; a drain does not wait for them.
ENDLESS_METHODS = (b"/GetContainerEvents", b"/Watch")
# How long an unfinished request may hold memory that others need.
STARVED_S = 30.0
# Chunks that are copied into one write; past this a copy costs more than a system call.
JOINED_BYTES = 16_384
_RESOURCE_EXHAUSTED = 8
_TOO_MUCH = "image-cri-shim: too many bytes of image requests are held"


class Pair:
    """A client connection and its own upstream connection."""

    def __init__(self, relay: Relay) -> None:
        self.client = Side(self._client_bytes, self._client_eof, self._lost, self._pace)
        self.upstream = Side(self._upstream_bytes, self._upstream_eof, self._lost, self._pace)
        self.client.on_made = self._client_made
        self._relay = relay
        self._core = Connection(relay.route, relay.budget, relay.strict)
        self._worker = Worker(relay.slots, self._decided)
        self._core.watched = relay.observer is not None
        self._calls: dict[int, tuple[HeldCall, int]] = {}  # and the size of its request
        self._begun: dict[int, float] = {}
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._unavailable: UnavailableServer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._open = False  # what the client sends can be taken now
        self._over = False
        self._answering = False  # the client causes answers and does not take them
        self._clogged = False
        self._starved_since: float | None = None

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
        early, self._early = self._early, []
        for data in early:
            self._client_bytes(data)
        self._early_bytes = 0
        if self.client.eof:
            self._client_eof()
        self._pace()

    def _pace(self) -> None:
        """Read from a side only while the other one takes what comes from it."""
        early_full = not self._open and self._early_bytes >= EARLY_BYTES
        self._answering = self._answering and self.client.full
        full = self.upstream.full or early_full or self._answering or self._clogged
        self.client.read(not full)
        self.upstream.read(not self.client.full)

    # -- bytes -------------------------------------------------------------------------

    def _client_bytes(self, data: bytes) -> None:
        if self._over:
            return
        if not self._open or self._unavailable is not None:
            self._client_bytes_without_upstream(data)
            return
        try:
            self._core.from_client(data)
        except FrameError as error:
            self._fail(error)
            return
        self._pump(of_client=True)

    def _client_bytes_without_upstream(self, data: bytes) -> None:
        if self._unavailable is None:
            self._early.append(data)
            self._early_bytes += len(data)
            if self._early_bytes >= EARLY_BYTES:
                self._pace()
            return
        try:
            self._answer(self._unavailable.feed(data))
        except FrameError as error:
            self._fail(error)
            return
        if self._unavailable.answered and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(1.0, self.close)

    def _answer(self, chunks: list[bytes]) -> None:
        """Send what the client itself has caused; one that does not take it is not read."""
        _write(self.client, chunks)
        if chunks and self.client.full and not self._answering:
            self._answering = True
            self._pace()

    def _upstream_bytes(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._core.from_upstream(data)
        except FrameError as error:
            self._fail(error)
            return
        self._pump()

    def _pump(self, *, of_client: bool = False) -> None:
        """Send what the core has for both sides and act on its events.

        `of_client`: it has been given bytes of the client's alone.
        """
        core = self._core
        while events := core.take_events():
            for event in events:
                self._on_event(event)
        # Only now, so that a call decided at once costs each side one write.
        _write(self.upstream, core.take_to_upstream())
        if of_client:
            self._answer(core.take_to_client())
        else:
            _write(self.client, core.take_to_client())
        if core.clogged != self._clogged:
            self._clogged = core.clogged
            self._pace()
        if core.starved:
            self._relay.watch_starving()

    def _fail(self, error: FrameError) -> None:
        """A peer broke a limit: what came before it goes on, and the client is told why."""
        log.warning("closing a client's connection: %s", error)
        if self._unavailable is None:
            self._core.go_away(error)
            self._pump()
        else:
            self.client.write(frames.goaway(0, error.h2_code, str(error)))
        self.close()

    # -- calls -------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CallReady):
            self._ready(event)
        elif isinstance(event, CallEnded):
            ended = self._forget(event.stream)
            if ended is not None:
                ended.finished(event.status, event.empty, event.message)
        elif isinstance(event, CallCancelled):
            self._forget(event.stream)
            self._worker.cancel(event.stream)
        elif isinstance(event, Notice):
            log.warning("%s", event.text)
        elif self._relay.observer is not None:
            self._observe(event, self._relay.observer)

    def _ready(self, event: CallReady) -> None:
        """Have a call decided, if there is memory for what is known of it."""
        relay, size = self._relay, len(event.message)
        size += sum(len(name) + len(value) for name, value in event.metadata)
        if relay.request_bytes + size > PROCESS_REQUEST_BYTES:
            log.warning("an image call is refused: too many bytes of others wait for their answers")
            self._core.refuse(event.stream, _RESOURCE_EXHAUSTED, _TOO_MUCH)
            return
        call = relay.open_call(event.path, event.message, event.timeout_s, event.metadata)
        self._calls[event.stream] = call, size
        relay.request_bytes += size
        decided = call.decide_now()
        if decided is None:
            self._worker.start(event.stream, call)
        else:
            self._settle(event.stream, decided.decision)

    def _forget(self, stream: int) -> HeldCall | None:
        """The call that is over; its message does not count any more."""
        call, size = self._calls.pop(stream, (None, 0))
        self._relay.request_bytes -= size
        return call

    def _observe(self, event: StreamBegan | StreamEnded, observer: Observer) -> None:
        now = time.monotonic()
        if isinstance(event, StreamBegan):
            self._begun[event.stream] = now
            observer.began(event.path)
        else:
            seconds = now - self._begun.pop(event.stream, now)
            observer.ended(event.path, event.status, seconds)

    def _settle(self, stream: int, decision: Decision) -> None:
        if isinstance(decision, Refusal):
            self._forget(stream)
            self._core.refuse(stream, decision.code, decision.text)
        elif isinstance(decision, Answer):
            self._forget(stream)
            self._core.answer(stream, decision.message)
        else:
            self._core.forward(stream, decision)

    def _decided(self, stream: int, decision: Decision) -> None:
        """A decision of the worker's has come."""
        if not self._over:
            self._settle(stream, decision)
            self._pump()

    def feed_starving(self) -> None:
        """Give held-back credit, or after a while refuse what keeps memory from others."""
        core = self._core
        if not core.starved or self._over:
            self._starved_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._starved_since is None:
            self._starved_since = now
        core.regrant()
        if core.starved and now - self._starved_since > STARVED_S and not self._worker.busy:
            for stream in core.gathering[:1]:
                core.refuse(stream, _RESOURCE_EXHAUSTED, _TOO_MUCH)
        self._pump()

    # -- the end -----------------------------------------------------------------------

    @property
    def working(self) -> bool:
        """Whether a call is under way that a drain waits for."""
        return any(not path.endswith(ENDLESS_METHODS) for path in self._core.live.values())

    def go_away(self) -> None:
        """Tell the client to open no more calls here."""
        if self.upstream.transport is not None and not self._over:
            self._core.go_away()
            self._pump()

    def _client_eof(self) -> None:
        """The client sends no more: held calls are given up, upstream is told the same."""
        if not self._open:
            return
        self._worker.cancel_all()
        if self.upstream.transport is None:
            self.close()
        else:
            self.upstream.write_eof()
            self._close_when_done()

    def _upstream_eof(self) -> None:
        """Upstream sends no more. What it has sent still reaches the client."""
        self.client.write_eof()
        self._close_when_done()
        if not self._over and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def _close_when_done(self) -> None:
        if self.client.eof and self.upstream.eof:
            self.close()

    def _lost(self) -> None:
        """One side is gone; the other ends with what is buffered for it."""
        self.close()
        if self.client.gone and (self.upstream.gone or self.upstream.transport is None):
            if self._linger is not None:
                self._linger.cancel()
            self._relay.connections.discard(self)
            self._let_go()

    def _let_go(self) -> None:
        """Undo the references in circles, so that all is freed now and not at some collection."""
        self.client.let_go()
        self.upstream.let_go()
        self._worker.let_go()

    def close(self) -> None:
        """End both sides; what is buffered may still go out, for LINGER_S at most."""
        if self._over:
            return
        self._over = True
        self._worker.cancel_all()
        self._core.close()
        for event in self._core.take_events():
            self._on_event(event)
        for stream in list(self._calls):
            self._forget(stream)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._linger is not None:
            self._linger.cancel()
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
        self.client.close()
        self.upstream.close()

    def abort(self) -> None:
        """End both sides at once."""
        self.client.abort()
        self.upstream.abort()


def _write(side: Side, chunks: list[bytes]) -> None:
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
