"""Request frames that wait for room in upstream's windows.

Streams wait independently of each other, as flow control does; only header blocks keep
the order in which they came, since each may change upstream's header table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shimcore.relay import frames
from shimcore.relay.windows import Ledger


@dataclass(slots=True)
class _Data:
    payload: memoryview
    end_stream: bool


@dataclass(slots=True)
class _Whole:
    """A header block or a RST_STREAM: whole frames that no window counts."""

    frames: bytes
    is_block: bool


class _Queue:
    __slots__ = ("items", "ledger")

    def __init__(self, ledger: Ledger | None) -> None:
        self.items: deque[_Data | _Whole] = deque()
        self.ledger = ledger


class SendQueue:
    """Frames to upstream, by stream; `inject` takes what can go."""

    def __init__(self, ledger: Ledger, inject: Callable[[bytes], None]) -> None:
        self._ledger = ledger
        self._inject = inject
        self._queues: dict[int, _Queue] = {}
        self._block_order: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def blocks_wait(self) -> bool:
        """Whether a header block is queued, so that any later one has to queue too."""
        return bool(self._block_order)

    def waits(self, stream: int) -> bool:
        """Whether anything of this stream is queued."""
        return stream in self._queues

    def add_data(
        self, stream: int, payload: bytes | memoryview, end_stream: bool, ledger: Ledger | None
    ) -> None:
        """Queue DATA that the ledgers count as held; `ledger` is the stream's, if opened."""
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = _Queue(ledger)
        queue.ledger = ledger
        queue.items.append(_Data(memoryview(payload), end_stream))
        self.flush()

    def add_block(self, stream: int, block_frames: bytes) -> None:
        """Queue a whole header block, HEADERS and CONTINUATION as they came."""
        self._block_order.append(stream)
        self._add_whole(stream, _Whole(block_frames, is_block=True))

    def add_reset(self, stream: int, reset: bytes) -> None:
        """Queue a RST_STREAM behind the blocks of a stream that upstream has not seen."""
        self._add_whole(stream, _Whole(reset, is_block=False))

    def _add_whole(self, stream: int, whole: _Whole) -> None:
        queue = self._queues.setdefault(stream, _Queue(None))
        queue.items.append(whole)
        self.flush()

    def drop_data(self, stream: int) -> int:
        """Forget a stream's queued DATA, not its blocks; returns the bytes dropped."""
        queue = self._queues.get(stream)
        if queue is None:
            return 0
        dropped = sum(len(item.payload) for item in queue.items if isinstance(item, _Data))
        queue.items = deque(item for item in queue.items if isinstance(item, _Whole))
        if not queue.items:
            del self._queues[stream]
        return dropped

    def flush(self) -> None:
        """Send whatever the windows and the order of blocks allow."""
        moved = bool(self._queues)
        while moved:
            moved = False
            for stream in list(self._queues):
                queue = self._queues[stream]
                while queue.items and self._send_head(stream, queue):
                    moved = True
                if not queue.items:
                    del self._queues[stream]

    def _send_head(self, stream: int, queue: _Queue) -> bool:
        item = queue.items[0]
        if isinstance(item, _Data):
            return self._send_data(stream, queue, item)
        if item.is_block:
            if self._block_order[0] != stream:
                return False
            self._block_order.popleft()
        queue.items.popleft()
        self._inject(item.frames)
        return True

    def _send_data(self, stream: int, queue: _Queue, item: _Data) -> bool:
        size = len(item.payload)
        room = self._ledger.upstream
        if queue.ledger is not None:
            room = min(room, queue.ledger.upstream)
        if size and room <= 0:
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
        if part == size:
            queue.items.popleft()
        else:
            item.payload = item.payload[part:]
        return True
