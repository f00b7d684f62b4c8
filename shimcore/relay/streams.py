"""What the relay remembers of a call that it opened, and of the whole connection.

Sections (§) in these modules are those of RFC 9113.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallEnded, CallReady, Event, Notice, StreamEnded
from shimcore.relay.limits import (
    CONNECTION_HELD_BYTES,
    CONNECTION_LIMIT_BYTES,
    PROCESS_HELD_BYTES,
    REFUSED_STREAMS,
)
from shimcore.relay.messages import (
    PREFIX_BYTES,
    UnreadableMessageError,
    read_message,
    whole_length,
)
from shimcore.relay.scanner import Scanner
from shimcore.relay.sendqueue import SendQueue
from shimcore.relay.windows import Ledger

# The client is given credit for held bytes when its connection window falls below this:
# two of the default-sized frames, so that other calls never wait for a decision.
GRANT_BELOW_BYTES = 32_768

GRPC_CANCELLED = 1
GRPC_UNKNOWN = 2
GRPC_UNAVAILABLE = 14


class Phase(Enum):
    """Where an opened call's request is."""

    GATHERING = auto()  # its message is not whole yet
    DECIDING = auto()  # whole, and the image side has been told
    RELEASED = auto()  # on its way to upstream, as it came or rewritten
    SWALLOWED = auto()  # answered without it: what the client still sends is dropped


class OpenedStream:
    """One opened call: the request bytes that are held and its own flow control."""

    __slots__ = (
        "answer",
        "answered",
        "awaited",
        "encoding",
        "ended",
        "gathered",
        "id",
        "inflated_bytes",
        "ledger",
        "path",
        "phase",
        "timeout_s",
    )

    def __init__(
        self, stream: int, path: bytes, encoding: bytes, timeout_s: float | None, window: int
    ) -> None:
        self.id = stream
        self.path = path
        self.encoding = encoding
        self.timeout_s = timeout_s
        self.ledger = Ledger(window)
        self.phase = Phase.GATHERING
        self.gathered = bytearray()
        self.inflated_bytes = 0  # of a compressed message, until it is decided on
        self.ended = False  # the client has sent END_STREAM
        self.awaited = False  # someone waits for the outcome of the forwarded call
        self.answered = False  # upstream's first HEADERS have gone to the client
        self.answer = b""  # up to PREFIX_BYTES of the first message of the answer

    @property
    def holding(self) -> bool:
        """Whether request bytes of this call are kept back for a decision."""
        return self.phase is Phase.GATHERING or self.phase is Phase.DECIDING

    @property
    def answer_empty(self) -> bool:
        """Whether the answer's first message is whole and has no bytes."""
        return len(self.answer) == PREFIX_BYTES and not any(self.answer[1:])


class Budget:
    """Bytes held by all connections of the process together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = PROCESS_HELD_BYTES) -> None:
        self.limit = limit
        self.used = 0


class ConnectionState:
    """What both directions of one connection share."""

    def __init__(
        self,
        to_client: Scanner,
        to_upstream: Scanner,
        opens: Callable[[bytes], bool],
        budget: Budget,
    ) -> None:
        self.to_client = to_client
        self.to_upstream = to_upstream
        self.opens = opens
        self.ledger = Ledger(frames.DEFAULT_WINDOW)
        self.queue = SendQueue(self.ledger, to_upstream.inject)
        self.live: dict[int, bytes] = {}  # every stream that has not ended, and its method
        self.opened: dict[int, OpenedStream] = {}
        self.refused: OrderedDict[int, None] = OrderedDict()
        self.events: list[Event] = []
        self.watched = False  # every call's beginning and end becomes an event
        self.last_stream = 0  # the newest stream that the client has opened
        self.lost = False  # a header table is lost: nothing is opened any more
        self.starved = False  # credit for held bytes was withheld for want of memory
        self.accounted = 0  # what the budget knows of the held bytes
        self._budget = budget

    # -- held requests -----------------------------------------------------------------

    def hold(self, stream: OpenedStream, payload: bytes | memoryview, size: int) -> None:
        """Keep a DATA payload; `size` is its flow-controlled length with padding."""
        self.receive(size)
        stream.ledger.receive(size)
        padding = size - len(payload)
        if padding:
            self.ledger.replace(padding, 0)
            stream.ledger.replace(padding, 0)
            self.settle(stream)
        stream.gathered += payload

    def receive(self, size: int) -> None:
        """Count bytes that stay here; a client that overruns its window is an error."""
        if size and size > self.ledger.client:
            raise frames.flow_control_error()
        if self.ledger.held + size > CONNECTION_LIMIT_BYTES:
            raise FrameError(
                frames.ENHANCE_YOUR_CALM, f"over {CONNECTION_LIMIT_BYTES} bytes of requests wait"
            )
        self.ledger.receive(size)

    def advance(self, stream: OpenedStream) -> None:
        """Look whether a gathering call's message is whole."""
        try:
            need = whole_length(stream.gathered)
            if need is not None and len(stream.gathered) == need:
                message = read_message(stream.gathered, stream.encoding)
                self._count_inflated(stream, len(message))
                stream.phase = Phase.DECIDING
                self.events.append(CallReady(stream.id, stream.path, message, stream.timeout_s))
                self.grant(None)
                return
        except UnreadableMessageError as error:
            method = stream.path.decode(errors="replace")
            self.events.append(Notice(f"{method}: request passed on unread: {error}"))
            self.release(stream)
            return
        if stream.ended or (need is not None and len(stream.gathered) > need):
            self.release(stream)  # no message, or several: not ours to judge
        elif self.ledger.held > CONNECTION_HELD_BYTES and self._has_room(stream):
            method = stream.path.decode(errors="replace")
            self.events.append(Notice(f"{method}: request passed on unread: too much is held"))
            self.release(stream)
        else:
            self.grant(stream)

    def _count_inflated(self, stream: OpenedStream, size: int) -> None:
        """A compressed message takes more memory than the windows know."""
        if not stream.gathered[0]:
            return
        inflated = sum(opened.inflated_bytes for opened in self.opened.values())
        if inflated + size > CONNECTION_HELD_BYTES:
            raise UnreadableMessageError("too much is inflated at once")
        stream.inflated_bytes = size

    def _has_room(self, stream: OpenedStream) -> bool:
        """Whether what is gathered of a call could leave at once."""
        return len(stream.gathered) <= min(self.ledger.upstream, stream.ledger.upstream)

    def release(self, stream: OpenedStream) -> None:
        """Send a held request on as it came."""
        if stream.phase is Phase.DECIDING:
            self.events.append(CallCancelled(stream.id))
        self.send(stream, bytes(stream.gathered))

    def send(self, stream: OpenedStream, payload: bytes) -> None:
        """Send `payload` in place of the held request."""
        old, new = len(stream.gathered), len(payload)
        if old != new:
            self.ledger.replace(old, new)
            stream.ledger.replace(old, new)
            self.settle(stream)
        stream.gathered = bytearray()
        stream.inflated_bytes = 0
        stream.phase = Phase.RELEASED
        if payload or stream.ended:
            self.queue.add_data(stream.id, payload, stream.ended, stream.ledger)

    def drop(self, stream: OpenedStream) -> None:
        """Forget what is held or queued of a call that is over.

        The client gets its connection window back; the stream's is of no use any more.
        """
        size = len(stream.gathered)
        stream.gathered = bytearray()
        stream.inflated_bytes = 0
        self.ledger.replace(size, 0)
        self.drop_queued(stream.id)

    def drop_queued(self, stream: int) -> None:
        """Forget the queued DATA of a call that is over."""
        self.ledger.replace(self.queue.drop_data(stream), 0)
        self.settle(None)

    # -- windows -----------------------------------------------------------------------

    def settle(self, stream: OpenedStream | None) -> None:
        """Pay the client what its windows are owed."""
        owed = self.ledger.settle()
        if owed:
            self.to_client.inject(frames.window_update(0, owed))
        if stream is not None:
            owed = stream.ledger.settle()
            if owed and not stream.ended:
                self.to_client.inject(frames.window_update(stream.id, owed))

    def grant(self, stream: OpenedStream | None) -> None:
        """Give credit for held bytes where the client could stall without it.

        `stream` is a call whose message is not whole, None when only the connection's
        window is in question. The client never sees more than upstream's own window.
        """
        ledger = self.ledger
        self.account()
        if ledger.client < GRANT_BELOW_BYTES and ledger.held > ledger.debt:
            if ledger.held > CONNECTION_HELD_BYTES or self._budget.used > self._budget.limit:
                self.starved = True
                return
            credit = ledger.held - ledger.debt
            ledger.grant(credit)
            self.to_client.inject(frames.window_update(0, credit))
        if stream is None or stream.ended or stream.phase is not Phase.GATHERING:
            return
        need = whole_length(stream.gathered) or PREFIX_BYTES
        credit = stream.ledger.held - stream.ledger.debt
        if credit > 0 and stream.ledger.client < need - len(stream.gathered):
            stream.ledger.grant(credit)
            self.to_client.inject(frames.window_update(stream.id, credit))

    def account(self) -> None:
        """Tell the process's budget what this connection holds."""
        held = self.ledger.held
        if held != self.accounted:
            self._budget.used += held - self.accounted
            self.accounted = held

    def close_account(self) -> None:
        """Give the process's budget back what this connection held."""
        self._budget.used -= self.accounted
        self.accounted = 0

    def resize_streams(self, difference: int) -> None:
        """Upstream's initial window changed; open streams' windows follow (§6.9.2)."""
        if not difference:
            return
        for stream in self.opened.values():
            stream.ledger.upstream += difference
            if stream.phase is Phase.GATHERING:
                self.grant(stream)  # what fitted when it was sent may be short of room now
        if difference > 0 and self.queue:
            self.queue.flush()

    # -- the end of a call -------------------------------------------------------------

    def ended(self, stream: int, status: int) -> None:
        """A call is over, with its gRPC status, for upstream or for the client."""
        path = self.live.pop(stream, None)
        if self.watched and path is not None:
            self.events.append(StreamEnded(stream, path, status))

    def refuse(self, stream: OpenedStream, code: int) -> None:
        """The shim has answered a call: nothing of it interests either side any more."""
        self.ended(stream.id, code)
        self.refused[stream.id] = None
        if len(self.refused) > REFUSED_STREAMS:
            self.refused.popitem(last=False)
        self._swallow(stream)

    def _swallow(self, stream: OpenedStream) -> None:
        """Answered without its request: end it upstream and drop what is still to come."""
        self.drop(stream)
        reset = frames.rst_stream(stream.id, frames.CANCEL)
        if self.queue.waits(stream.id):
            self.queue.add_frame(stream.id, reset)
        else:
            self.to_upstream.inject(reset)
        stream.phase = Phase.SWALLOWED
        if stream.ended:
            self.opened.pop(stream.id, None)

    def finish(self, stream: OpenedStream, status: int) -> None:
        """Upstream has answered the call to its end."""
        self.report(stream, status)
        if stream.gathered or (stream.holding and stream.ended) or self.queue.waits(stream.id):
            self._swallow(stream)
        else:
            self.opened.pop(stream.id, None)

    def report(self, stream: OpenedStream, status: int) -> None:
        """Tell whoever decides on a call, or waits for its outcome, that it is over."""
        if stream.phase is Phase.DECIDING:
            self.events.append(CallCancelled(stream.id))
        elif stream.awaited:
            stream.awaited = False
            self.events.append(CallEnded(stream.id, status, stream.answer_empty))

    def lose(self, reason: str) -> None:
        """A header table is lost: release what is held and open nothing any more."""
        if self.lost:
            return
        self.lost = True
        self.events.append(Notice(f"this connection is relayed unread from here on: {reason}"))
        for stream in list(self.opened.values()):
            if stream.holding:
                self.release(stream)
            else:
                self.report(stream, GRPC_UNKNOWN)
