"""Request frames that wait for room in upstream's windows.

Streams wait independently of each other, as flow control does. Header blocks keep the
order in which they came, since each may change upstream's header table.

An opened stream's window is known from its ledger. DATA of other streams (untracked) was
within the stream's window when the client sent it, and stays so unless an ACK of upstream's
settings overtakes it, or it an ACK. So such an ACK keeps its place: among the header blocks,
whose encoder obeys the acknowledged table size from there on, and among untracked DATA.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import QUEUED_FRAME_BYTES, QUEUED_FRAME_COST_BYTES
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
    payload: memoryview
    end_stream: bool
    untracked: _Untracked | None


@dataclass(slots=True)
class _Whole:
    """Whole frames that no window counts."""

    frames: bytes
    in_order: bool  # a header block or an ACK
    before: _Untracked | None = None  # of an ACK: what has to go first
    after: _Untracked | None = None  # and what has to wait for it
    sent: Callable[[], None] | None = None


class _Queue:
    __slots__ = ("items", "ledger")

    def __init__(self) -> None:
        self.items: deque[_Data | _Whole] = deque()
        self.ledger: Ledger | None = None


class SendQueue:
    """Frames to upstream, by stream; `inject` takes what can go."""

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
        """Whether an ACK of upstream's settings is queued."""
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
        """Queue DATA that the ledgers count as held; `ledger` is the stream's, if opened."""
        untracked = None
        if ledger is None:
            untracked = self._untracked
            untracked.items += 1
        self._add(stream, _Data(memoryview(payload), end_stream, untracked), ledger)

    def add_block(self, stream: int, block_frames: bytes) -> None:
        """Queue a whole header block, HEADERS and CONTINUATION as they came."""
        self._order.append(stream)
        self._add(stream, _Whole(block_frames, in_order=True))

    def add_frame(self, stream: int, whole_frame: bytes) -> None:
        """Queue a frame behind what upstream has not seen of its stream."""
        self._add(stream, _Whole(whole_frame, in_order=False))

    def add_ack(self, ack: bytes, sent: Callable[[], None]) -> None:
        """Queue an ACK of upstream's settings; `sent` is called when it has gone."""
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

    def _add(self, stream: int, item: _Data | _Whole, ledger: Ledger | None = None) -> None:
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = _Queue()
        if ledger is not None:
            queue.ledger = ledger
        queue.items.append(item)
        if isinstance(item, _Whole):
            self._frame_bytes += len(item.frames) + QUEUED_FRAME_COST_BYTES
        if len(queue.items) == 1 and self._advance(stream, queue) and self._order:
            self.flush()

    def drop_data(self, stream: int) -> int:
        """Forget a stream's queued DATA, not its blocks; returns the bytes dropped."""
        queue = self._queues.get(stream)
        if queue is None:
            return 0
        dropped = 0
        kept: deque[_Data | _Whole] = deque()
        for item in queue.items:
            if isinstance(item, _Whole):
                kept.append(item)
                continue
            dropped += len(item.payload)
            if item.untracked is not None:
                item.untracked.items -= 1
        queue.items = kept
        if not kept:
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
        while queue.items and self._send_head(stream, queue):
            moved = True
        if not queue.items and self._queues.get(stream) is queue:
            del self._queues[stream]
        return moved

    def _send_head(self, stream: int, queue: _Queue) -> bool:
        item = queue.items[0]
        if isinstance(item, _Data):
            return self._send_data(stream, queue, item)
        if item.in_order:
            if self._order[0] != stream or (item.before is not None and item.before.items):
                return False
            self._order.popleft()
        queue.items.popleft()
        self._frame_bytes -= len(item.frames) + QUEUED_FRAME_COST_BYTES
        self._inject(item.frames)
        if item.after is not None:
            item.after.free = True
        if item.sent is not None:
            item.sent()
        return True

    def _send_data(self, stream: int, queue: _Queue, item: _Data) -> bool:
        size = len(item.payload)
        room = self._ledger.upstream
        if queue.ledger is not None:
            room = min(room, queue.ledger.upstream)
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
        if queue.ledger is not None:
            queue.ledger.send(part)
        if part < size:
            item.payload = item.payload[part:]
            return True
        queue.items.popleft()
        if item.untracked is not None:
            item.untracked.items -= 1
        return True
