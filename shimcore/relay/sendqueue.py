"""The DATA that goes one way: what its reader takes, what waits for that, what is owed.

Streams wait independently of each other, as flow control does. Header blocks keep the
order in which they came, since each may change the reader's header table.

A stream's window is known from its ledger. DATA of streams without one (untracked) was
within the stream's window when its writer sent it, and stays so unless an ACK of the
reader's settings overtakes it, or it an ACK. So such an ACK keeps its place: among the header
blocks, whose encoder obeys the acknowledged table size from there on, and among untracked DATA.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import QUEUED_FRAME_BYTES, QUEUED_FRAME_COST_BYTES
from shimcore.relay.scanner import Scanner
from shimcore.relay.windows import Ledger

# Frames of no stream queue under this one.
_CONNECTION = 0


@dataclass(slots=True)
class _Untracked:
    """DATA of streams without a ledger that came between two queued ACKs."""

    items: int = 0
    free: bool = True  # the ACK before it has gone


@dataclass(slots=True)
class _Data:
    payload: bytes | memoryview  # the latter: mypyc cannot compile it alone
    end_stream: bool
    ledger: Ledger | None
    untracked: _Untracked | None


@dataclass(slots=True)
class _Whole:
    """Whole frames that no window counts."""

    frames: bytes
    in_order: bool  # a header block or an ACK
    make: Callable[[], bytes] | None = None  # of a block that is not put together yet
    before: _Untracked | None = None  # of an ACK: what has to go first
    after: _Untracked | None = None  # and what has to wait for it
    sent: Callable[[], None] | None = None


_Queue = deque[_Data | _Whole]


class SendQueue:
    """Frames to one reader, by stream; `inject` takes what can go."""

    def __init__(self, ledger: Ledger, inject: Callable[[bytes], None]) -> None:
        self._ledger = ledger
        self._inject = inject
        self._queues: dict[int, _Queue] = {}
        self._order: deque[int] = deque()
        self._untracked = _Untracked()
        self._frame_bytes = 0  # of queued frames that no window counts

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def blocks_wait(self) -> bool:
        """Whether a header block or an ACK is queued, so that a later one has to queue too."""
        return bool(self._order)

    @property
    def ack_waits(self) -> bool:
        """Whether an ACK of the reader's settings is queued."""
        return _CONNECTION in self._queues

    @property
    def untracked_waits(self) -> bool:
        """Whether DATA is queued whose stream's window is not known."""
        return bool(self._untracked.items)

    def waits(self, stream: int) -> bool:
        """Whether anything of this stream is queued."""
        return stream in self._queues

    def add_data(
        self, stream: int, payload: bytes | memoryview, end_stream: bool, ledger: Ledger | None
    ) -> None:
        """Queue DATA that the ledgers count as held; `ledger` is the stream's, if it has one."""
        untracked = None
        if ledger is None:
            untracked = self._untracked
            untracked.items += 1
        self._add(stream, _Data(memoryview(payload), end_stream, ledger, untracked))

    def add_block(self, stream: int, block_frames: bytes) -> None:
        """Queue a whole header block, HEADERS and CONTINUATION as they came."""
        self._order.append(stream)
        self._add(stream, _Whole(block_frames, in_order=True))

    def add_frame(self, stream: int, whole_frame: bytes) -> None:
        """Queue a frame behind what the reader has not seen of its stream."""
        self._add(stream, _Whole(whole_frame, in_order=False))

    def add_last(self, stream: int, make: Callable[[], bytes], sent: Callable[[], None]) -> None:
        """Queue the header block that ends a stream of the relay's own, to be made when it goes.

        It takes its turn among the blocks only when the DATA before it has gone: until then
        no other stream waits for it.
        """
        self._add(stream, _Whole(b"", in_order=False, make=make, sent=sent))

    def make_last(self, stream: int) -> None:
        """Put such a block together now, since another block of its stream has come."""
        for item in self._queues.get(stream, ()):
            if isinstance(item, _Whole) and item.make is not None:
                self._make(stream, item, item.make)

    def _make(self, stream: int, item: _Whole, make: Callable[[], bytes]) -> None:
        item.frames, item.make, item.in_order = make(), None, True
        self._frame_bytes += len(item.frames)
        self._order.append(stream)

    def add_ack(self, ack: bytes, sent: Callable[[], None]) -> None:
        """Queue an ACK of the reader's settings; `sent` is called when it has gone."""
        self._order.append(_CONNECTION)
        before, after = self._untracked, _Untracked(free=False)
        self._untracked = after
        self._add(_CONNECTION, _Whole(ack, in_order=True, before=before, after=after, sent=sent))

    def check(self) -> None:
        """Raises FrameError when too many frames wait that no window counts."""
        if self._frame_bytes > QUEUED_FRAME_BYTES:
            raise FrameError(
                frames.ENHANCE_YOUR_CALM, f"over {QUEUED_FRAME_BYTES} bytes of frames wait"
            )

    def _add(self, stream: int, item: _Data | _Whole) -> None:
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = deque()
        queue.append(item)
        if isinstance(item, _Whole):
            self._frame_bytes += len(item.frames) + QUEUED_FRAME_COST_BYTES
        if len(queue) == 1 and self._advance(stream, queue) and self._order:
            self.flush()

    def drop_data(self, stream: int) -> int:
        """Forget what is queued of a stream but its blocks; returns the bytes of DATA dropped."""
        queue = self._queues.get(stream)
        if queue is None:
            return 0
        dropped = 0
        kept: _Queue = deque()
        for item in queue:
            if isinstance(item, _Data):
                dropped += len(item.payload)
                if item.untracked is not None:
                    item.untracked.items -= 1
            elif item.in_order:
                kept.append(item)
            else:
                self._frame_bytes -= len(item.frames) + QUEUED_FRAME_COST_BYTES
        if kept:
            self._queues[stream] = kept
        else:
            del self._queues[stream]
        if self._order:
            self.flush()
        return dropped

    def flush(self) -> None:
        """Send whatever the windows and the order of blocks allow."""
        moved = True
        while moved:
            moved = False
            for stream, queue in list(self._queues.items()):
                moved |= self._advance(stream, queue)
            if not self._order:  # streams wait for each other in nothing else
                return

    def _advance(self, stream: int, queue: _Queue) -> bool:
        """Send what can go of one stream; whether anything could."""
        moved = False
        while queue and self._send_head(stream, queue):
            moved = True
        if not queue and self._queues.get(stream) is queue:
            del self._queues[stream]
        return moved

    def _send_head(self, stream: int, queue: _Queue) -> bool:
        item = queue[0]
        if isinstance(item, _Data):
            return self._send_data(stream, queue, item)
        if item.make is not None:
            self._make(stream, item, item.make)
        if item.in_order:
            if self._order[0] != stream or (item.before is not None and item.before.items):
                return False
            self._order.popleft()
        queue.popleft()
        self._frame_bytes -= len(item.frames) + QUEUED_FRAME_COST_BYTES
        self._inject(item.frames)
        if item.after is not None:
            item.after.free = True
        if item.sent is not None:
            item.sent()
        return True

    def _send_data(self, stream: int, queue: _Queue, item: _Data) -> bool:
        size = len(item.payload)
        room = self._ledger.room
        if item.ledger is not None:
            room = min(room, item.ledger.room)
        if (size and room <= 0) or (item.untracked is not None and not item.untracked.free):
            return False
        part = min(size, room, frames.OWN_FRAME_BYTES) if size else 0
        ends = item.end_stream and part == size
        self._inject(
            frames.frame(
                frames.DATA, frames.END_STREAM if ends else 0, stream, bytes(item.payload[:part])
            )
        )
        self._ledger.send(part)
        if item.ledger is not None:
            item.ledger.send(part)
        if part < size:
            item.payload = item.payload[part:]
            return True
        queue.popleft()
        if item.untracked is not None:
            item.untracked.items -= 1
        return True


class Flow:
    """A connection's ledger of one way, and the frames that wait for the reader's windows.

    There are two: requests, which the client writes and upstream reads, and replies.
    """

    __slots__ = ("_to_writer", "ledger", "queue")

    def __init__(self, to_reader: Scanner, to_writer: Scanner) -> None:
        self.ledger = Ledger(frames.DEFAULT_WINDOW)
        self.queue = SendQueue(self.ledger, to_reader.inject)
        self._to_writer = to_writer

    def credit(self, stream: int, size: int) -> None:
        """Give the writer room for `size` bytes more."""
        if size:
            self._to_writer.inject(frames.window_update(stream, size))

    def settle(self) -> None:
        """Pay the writer what its connection window is owed."""
        self.credit(0, self.ledger.settle())

    def drop(self, size: int) -> None:
        """Bytes came that go nowhere; its stream's window is of no use any more."""
        self.ledger.receive(size)
        self.ledger.replace(size, 0)
        self.settle()

    def drop_queued(self, stream: int) -> None:
        """Forget the queued DATA of a call that is over."""
        self.ledger.replace(self.queue.drop_data(stream), 0)
        self.settle()
