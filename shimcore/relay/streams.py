"""What both directions of a connection share, and what the relay does with opened calls.

Sections (§) in these modules are those of RFC 9113.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.heldcall import Decision
from shimcore.relay import frames
from shimcore.relay.budget import Account, Budget
from shimcore.relay.clients import Client
from shimcore.relay.events import (
    CallCancelled,
    CallEnded,
    CallReady,
    Event,
    Metadata,
    Notice,
    StreamEnded,
)
from shimcore.relay.headers import ENTRY_OVERHEAD_BYTES
from shimcore.relay.limits import (
    CONNECTION_HELD_BYTES,
    CONNECTION_LIMIT_BYTES,
    CONNECTION_METADATA_BYTES,
    HELD_SHARE_BYTES,
    METADATA_BYTES,
    REFUSED_STREAMS,
)
from shimcore.relay.messages import (
    GRPC_INVALID_ARGUMENT,
    GRPC_RESOURCE_EXHAUSTED,
    GRPC_UNKNOWN,
    PREFIX_BYTES,
    Inflation,
    UnreadableMessageError,
    whole_length,
)
from shimcore.relay.opened import OpenedStream, Phase
from shimcore.relay.route import Route
from shimcore.relay.scanner import Scanner
from shimcore.relay.sendqueue import Flow

# The client is given credit for held bytes when its connection window falls below this:
# two of the default-sized frames, so that other calls never wait for a decision.
GRANT_BELOW_BYTES = 32_768


class ConnectionState:
    """What both directions of one connection share."""

    def __init__(
        self,
        to_client: Scanner,
        to_upstream: Scanner,
        route: Callable[[bytes], Route],
        budget: Budget,
        strict: Callable[[], bool],
        count: Callable[[bytes], None],
        client: Client,
        decide: Callable[[CallReady], Decision | None] | None,
    ) -> None:
        self.to_client = to_client
        self.to_upstream = to_upstream
        self.route = route
        self.count = count  # is told of every call
        self.strict = strict  # whether there are calls that must not go on unread
        self.requests = Flow(to_upstream, to_client)
        self.replies = Flow(to_client, to_upstream)
        self.ledger, self.queue = self.requests.ledger, self.requests.queue
        self.refuse_call: Callable[[OpenedStream, int, str], bool]
        self.settle_call: Callable[[int, Decision], bool]
        self.live: dict[int, bytes] = {}  # every stream that has not ended, and its method
        self.opened: dict[int, OpenedStream] = {}
        self.refused: OrderedDict[int, None] = OrderedDict()
        self.events: list[Event] = []
        self.decide = decide or self.events.append  # who decides looks at the events
        self.client = client  # which may have other connections
        self.watched = False  # every call's beginning and end becomes an event
        self.last_stream = 0  # the newest stream that the client has opened
        self.last_ack = b""  # the newest answer to a PING of the client's
        self.lost = False  # a header table is lost: nothing is opened any more
        self.memory_blocked = False  # credit for held bytes was withheld for want of memory
        self.account_held = Account(budget)  # of held bytes, and of those they inflate to
        self.packed: deque[OpenedStream] = deque()  # whole, compressed and not read yet
        self._inflation: Inflation | None = None  # of the first of them
        self._inflated = 0  # bytes of the calls that are not decided on
        self._metadata_bytes = 0  # of calls whose message is not whole

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
        if size and size > self.ledger.seen:
            raise frames.flow_control_error("the client")
        if self.ledger.held + size > CONNECTION_LIMIT_BYTES:
            raise FrameError(
                frames.ENHANCE_YOUR_CALM, f"over {CONNECTION_LIMIT_BYTES} bytes of requests wait"
            )
        self.ledger.receive(size)

    def decided_now(self, stream: OpenedStream, message: bytes) -> Decision | None:
        """What has been decided on a whole request; None when that comes later."""
        stream.phase = Phase.DECIDING
        kept, timeout_s = self.take_metadata(stream), stream.timeout_s
        return self.decide(CallReady(stream.id, stream.path, message, timeout_s, kept, stream.long))

    def advance(self, stream: OpenedStream) -> None:
        """Look whether a gathering call's message is whole."""
        try:
            need = whole_length(stream.gathered)
            # Of a strict call nothing is told until its end is known to be a unary request's.
            if len(stream.gathered) == need and (stream.ended or not stream.strict):
                self._whole(stream)
                return
        except UnreadableMessageError as error:
            self._unreadable(stream, error)
            return
        if stream.ended or (need is not None and len(stream.gathered) > need):
            self.release(stream, "not exactly one message")  # otherwise not ours to judge
        elif self.holds_too_much() and self._can_release(stream):
            self._notice(stream, "too much is held")
            self.release(stream, "too much is held", GRPC_RESOURCE_EXHAUSTED)
        else:
            self.grant(stream)

    def _whole(self, stream: OpenedStream) -> None:
        """A message has come; a compressed one is inflated as the shell has time for it."""
        stream.phase = Phase.DECIDING
        if stream.gathered[0]:
            self.packed.append(stream)
            if len(self.packed) == 1:
                self.inflate()
        else:
            message = bytes(memoryview(stream.gathered)[PREFIX_BYTES:])
            self.apply(stream, self.decided_now(stream, message))

    def inflate(self) -> None:
        """Inflate one more piece of the compressed messages that are here."""
        stream = self.packed[0]
        if stream.phase is not Phase.DECIDING or self.opened.get(stream.id) is not stream:
            self._inflated_to_end()  # it needs no decision any more
            return
        try:
            if self._inflation is None:
                self._inflation = Inflation(stream.gathered, stream.encoding)
            inflation = self._inflation
            whole = inflation.step()
            self._count_inflated(stream, inflation.size)
        except UnreadableMessageError as error:
            self._inflated_to_end()
            self._unreadable(stream, error)
            return
        if whole:
            self._inflated_to_end()
            self.apply(stream, self.decided_now(stream, inflation.message()))

    def _inflated_to_end(self) -> None:
        self.packed.popleft()
        self._inflation = None

    def apply(self, stream: OpenedStream, decision: Decision | None) -> None:
        """Do with a held request what has been decided, if anything has."""
        if decision is not None:
            self.settle_call(stream.id, decision)
        self.grant(None)

    def _unreadable(self, stream: OpenedStream, error: UnreadableMessageError) -> None:
        stream.phase = Phase.GATHERING  # nobody has been told of it
        if stream.gathered[0] and error.code == GRPC_RESOURCE_EXHAUSTED:
            self._refuse_unread(stream, str(error), error.code)  # the runtime is spared it, too
            return
        self._notice(stream, str(error))
        self.release(stream, str(error), error.code)

    def _notice(self, stream: OpenedStream, why: str) -> None:
        if not stream.strict:
            method = stream.path.decode(errors="replace")
            self.events.append(Notice(f"{method}: request passed on unread: {why}"))

    def keep_metadata(self, stream: OpenedStream, metadata: Metadata) -> None:
        """Keep a call's metadata until its message is whole, if it is not too much."""
        size = sum(ENTRY_OVERHEAD_BYTES + len(name) + len(value) for name, value in metadata)
        if size > METADATA_BYTES or self._metadata_bytes + size > CONNECTION_METADATA_BYTES:
            method = stream.path.decode(errors="replace")
            self.events.append(Notice(f"{method}: metadata of {size} bytes is not kept"))
            return
        stream.metadata, stream.metadata_bytes = metadata, size
        self._metadata_bytes += size

    def take_metadata(self, stream: OpenedStream) -> Metadata:
        """A call's metadata, which is not kept any longer."""
        self._metadata_bytes -= stream.metadata_bytes
        metadata, stream.metadata, stream.metadata_bytes = stream.metadata, (), 0
        return metadata

    def _count_inflated(self, stream: OpenedStream, size: int) -> None:
        """A compressed message takes more memory than the windows know."""
        self._inflated += size - stream.inflated_bytes
        stream.inflated_bytes = size
        if self._inflated > CONNECTION_HELD_BYTES or self.account_held.over:
            raise UnreadableMessageError("too much is inflated at once", GRPC_RESOURCE_EXHAUSTED)

    def holds_too_much(self) -> bool:
        """Whether upstream's own windows let the client have more here than there is for it."""
        held = self.ledger.held
        if held <= HELD_SHARE_BYTES:
            return False
        self.account()
        return held > CONNECTION_HELD_BYTES or self.account_held.over

    def _can_release(self, stream: OpenedStream) -> bool:
        """Whether what is gathered of a call could leave at once."""
        room = min(self.ledger.room, stream.ledger.room)
        return stream.strict or len(stream.gathered) <= room

    def release(self, stream: OpenedStream, why: str, code: int = GRPC_INVALID_ARGUMENT) -> None:
        """Send a held request on as it came. A strict one is refused, which `why` explains."""
        if stream.phase is Phase.DECIDING and stream not in self.packed:  # nobody knows of those
            self.events.append(CallCancelled(stream.id))
        if not stream.strict:
            self.send(stream, bytes(stream.gathered))
        else:
            self._refuse_unread(stream, why, code)

    def _refuse_unread(self, stream: OpenedStream, why: str, code: int) -> None:
        method = stream.path.decode(errors="replace")
        self.events.append(Notice(f"{method}: request refused unread: {why}"))
        text = f"image-cri-shim: a request that cannot be read is refused here: {why}"
        if not self.refuse_call(stream, code, text):
            self._swallow(stream)  # upstream's own answer is about to end it

    def send(self, stream: OpenedStream, payload: bytes) -> None:
        """Send `payload` in place of the held request."""
        old, new = len(stream.gathered), len(payload)
        if old != new:
            self.ledger.replace(old, new)
            stream.ledger.replace(old, new)
            self.settle(stream)
        self._forget_request(stream)
        stream.phase = Phase.RELEASED
        if payload or stream.ended:
            self.queue.add_data(stream.id, payload, stream.ended, stream.ledger)

    def drop(self, stream: OpenedStream) -> None:
        """Forget what is held or queued of a call that is over.

        The client gets its connection window back; the stream's is of no use any more.
        """
        self.ledger.replace(len(stream.gathered), 0)
        self._forget_request(stream)
        self.requests.drop_queued(stream.id)

    def _forget_request(self, stream: OpenedStream) -> None:
        stream.gathered = bytearray()
        self._inflated -= stream.inflated_bytes
        stream.inflated_bytes = 0
        self.take_metadata(stream)

    # -- windows -----------------------------------------------------------------------

    def settle(self, stream: OpenedStream) -> None:
        """Pay the client what its windows are owed."""
        self.requests.settle()
        owed = stream.ledger.settle()
        if not stream.ended:
            self.requests.credit(stream.id, owed)

    def grant(self, stream: OpenedStream | None) -> None:
        """Give credit for held bytes where the client could stall without it.

        `stream` is a call whose message is not whole, None when only the connection's
        window is in question. The client never sees more than upstream's own window.
        """
        ledger = self.ledger
        self.account()
        if ledger.seen < GRANT_BELOW_BYTES and ledger.held > ledger.debt:
            if ledger.held > CONNECTION_HELD_BYTES or self.account_held.over:
                self.memory_blocked = True
                return
            credit = ledger.held - ledger.debt
            ledger.grant(credit)
            self.requests.credit(0, credit)
        if stream is None or stream.ended or stream.phase is not Phase.GATHERING:
            return
        need = whole_length(stream.gathered) or PREFIX_BYTES
        credit = stream.ledger.held - stream.ledger.debt
        if credit > 0 and stream.ledger.seen < need - len(stream.gathered):
            stream.ledger.grant(credit)
            self.requests.credit(stream.id, credit)

    def account(self) -> None:
        """Tell the process's budget what this connection holds."""
        difference = self.ledger.held + self._inflated - self.account_held.used
        if difference:
            self.account_held.change(difference)

    def close_account(self) -> None:
        """Give the process's budget back what this connection held."""
        self.account_held.change(-self.account_held.used)

    def resize_requests(self, difference: int) -> None:
        """Upstream's initial window changed; open streams' windows follow (§6.9.2)."""
        if not difference:
            return
        for stream in self.opened.values():
            stream.ledger.room += difference
            if stream.phase is Phase.GATHERING:
                self.grant(stream)  # what fitted when it was sent may be short of room now
        if difference > 0 and self.queue:
            self.queue.flush()

    def resize_replies(self, difference: int) -> None:
        """The client's initial window changed, likewise."""
        for stream in self.opened.values():
            stream.reply.room += difference
        if difference > 0 and self.replies.queue:
            self.replies.queue.flush()

    # -- the end of a call -------------------------------------------------------------

    def ended(self, stream: int, status: int) -> None:
        """A call is over, with its gRPC status, for upstream or for the client."""
        path = self.live.pop(stream, None)
        if path is None:
            return
        self.client.over()
        if self.watched:
            self.events.append(StreamEnded(stream, path, status))

    def end_here(self, stream: OpenedStream) -> None:
        """The shim answers a call: nothing of it interests upstream any more."""
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
        self.forget_swallowed(stream)

    def forget_swallowed(self, stream: OpenedStream) -> None:
        """Remember a call no longer when both directions of it have ended at the client."""
        if stream.ended and not stream.answering:
            self.opened.pop(stream.id, None)

    def finish(self, stream: OpenedStream, status: int, message: str) -> None:
        """Upstream has answered the call to its end."""
        self.report(stream, status, message)
        if stream.gathered or (stream.holding and stream.ended) or self.queue.waits(stream.id):
            self._swallow(stream)
        else:
            self.take_metadata(stream)
            self.opened.pop(stream.id, None)

    def report(self, stream: OpenedStream, status: int, message: str = "") -> None:
        """Tell whoever decides on a call, or waits for its outcome, that it is over."""
        if stream.phase is Phase.DECIDING and stream not in self.packed:  # nobody knows of those
            self.events.append(CallCancelled(stream.id))
        elif stream.awaited:
            stream.awaited = False
            self.events.append(CallEnded(stream.id, status, stream.answer_empty, message))

    def lose(self, reason: str, h2_code: int = frames.COMPRESSION_ERROR) -> None:
        """A header table is lost: release what is held and open nothing any more.

        Raises FrameError where calls must not go on unread.
        """
        if self.strict() or any(s.strict and s.holding for s in self.opened.values()):
            raise FrameError(h2_code, f"a connection cannot go on unread: {reason}")
        if self.lost:
            return
        self.lost = True
        self.events.append(Notice(f"this connection is relayed unread from here on: {reason}"))
        for stream in list(self.opened.values()):
            if stream.holding:
                self.release(stream, reason)
            else:
                self.report(stream, GRPC_UNKNOWN)
