"""What both directions of a connection do alike: header blocks, DATA that waits, settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.headers import Field, HeaderDecodeError, HeaderDecoder
from shimcore.relay.limits import (
    FRAGMENT_BYTES,
    FRAME_BYTES,
    HEADER_BLOCK_BYTES,
    HEADER_TABLE_BYTES,
)
from shimcore.relay.scanner import Handler, Scanner, Verdict
from shimcore.relay.sendqueue import Flow
from shimcore.relay.settings import AnnouncedSettings
from shimcore.relay.streams import ConnectionState
from shimcore.relay.windows import Ledger

PASS, TAKE, WHOLE, AGAIN = Verdict.PASS, Verdict.TAKE, Verdict.WHOLE, Verdict.AGAIN
_WINDOW = frames.SETTINGS_INITIAL_WINDOW_SIZE
_IN_PARTS = frames.END_HEADERS | frames.PADDED | frames.PRIORITY_FLAG


class BlockGatherer:
    """Gathers the fragments of the one header block that is open in a direction (§4.3)."""

    __slots__ = ("_fragments", "_size", "flags", "frames", "goes_on", "stream")

    def __init__(self) -> None:
        self.stream = 0
        self.flags = 0
        self.goes_on = False  # CONTINUATION is to follow
        self.frames: list[bytes] = []  # the frames as they came, where they must be kept
        self._fragments: list[bytes] = []
        self._size = 0

    def start(self, stream: int, flags: int) -> None:
        """A HEADERS or PUSH_PROMISE frame opens a block; its flags count for the stream."""
        self.stream = stream
        self.flags = flags
        if self.frames:
            self.frames.clear()
        if self._size:
            self._fragments.clear()
            self._size = 0

    def add(self, fragment: bytes, flags: int) -> bytes | None:
        """The whole block once END_HEADERS is there; raises FrameError when it is too long."""
        self.goes_on = not flags & frames.END_HEADERS
        if not (self.goes_on or self._size) and len(fragment) <= HEADER_BLOCK_BYTES:
            return fragment  # as nearly all are
        self._size += max(len(fragment), FRAGMENT_BYTES)
        if self._size > HEADER_BLOCK_BYTES:
            raise FrameError(
                frames.ENHANCE_YOUR_CALM, f"header block over {HEADER_BLOCK_BYTES} bytes"
            )
        self._fragments.append(fragment)
        if not flags & frames.END_HEADERS:
            return None
        block = b"".join(self._fragments)
        self._fragments.clear()
        return block


class Direction(ABC):
    """Handlers of one side's frames; `handlers()` is what the scanner is given.

    `_settings` are those that this side has announced, `_reader_settings` the other side's;
    `_flow` is the DATA that this side writes.
    """

    def __init__(self, settings: AnnouncedSettings, reader_settings: AnnouncedSettings) -> None:
        self._settings = settings
        self._reader_settings = reader_settings
        self.decoder = HeaderDecoder()
        self.peer = self.decoder  # the other direction's, whose bound this one announces
        self._block = BlockGatherer()
        self._keep_block = False  # the frames of the open block do not go on as they come
        self._decoding = False  # its last frame has come, and is shown again
        self._changes = 0  # of the decoder's table, before the block
        self._state: ConnectionState
        self._flow: Flow
        self._ledger: Ledger  # the flow's, which every DATA frame needs
        self._out: Scanner  # of what this side sends
        self._resize: Callable[[int], None]
        self._resize_back: Callable[[int], None]

    @abstractmethod
    def attach(self, state: ConnectionState, peer: HeaderDecoder) -> None:
        """Give the handlers what they share with the other direction, and its decoder."""

    def handlers(self) -> list[Handler | None]:
        """Indexed by frame type; what is missing passes."""
        table: list[Handler | None] = [None] * (frames.CONTINUATION + 1)
        table[frames.DATA] = self.on_data
        table[frames.HEADERS] = self.on_headers
        table[frames.CONTINUATION] = self.on_continuation
        table[frames.RST_STREAM] = self.on_reset
        table[frames.SETTINGS] = self.on_settings
        table[frames.WINDOW_UPDATE] = self.on_window_update
        return table

    # -- DATA --------------------------------------------------------------------------

    @abstractmethod
    def on_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.1."""

    @abstractmethod
    def _receive(self, size: int) -> None:
        """Count bytes that stay here. Raises FrameError when they are too many."""

    def _pass_or_wait(
        self, data: bytes, start: int, end: int, flags: int, stream: int, own: Ledger | None
    ) -> Verdict:
        """DATA while the windows of both ends differ: it passes where the reader has room.

        `own` is the stream's ledger where one is kept of what the reader takes.
        """
        size = end - start
        ledger, queue = self._ledger, self._flow.queue
        room = ledger.room if own is None else min(ledger.room, own.room)
        # The reader may accept a longer frame only once a queued ACK of its settings has gone,
        # and of a stream without a ledger nobody knows whether the ACK makes it smaller.
        waits = queue.ack_waits and (own is None or size > frames.OWN_FRAME_BYTES)
        if size <= room and not waits and not queue.waits(stream):
            ledger.room -= size
            if own is not None:
                own.room -= size
            return PASS
        self._check_length(size)
        if end > len(data):
            return WHOLE
        first, last = self._unpadded(data, start, end, flags)
        self._receive(size)
        padding = size - (last - first)
        self._ledger.replace(padding, 0)
        self._flow.settle()
        ends = bool(flags & frames.END_STREAM)
        if own is not None:
            own.receive(size)
            own.replace(padding, 0)
            padding = own.settle()
        if not ends:
            self._flow.credit(stream, padding)
        queue.add_data(stream, data[first:last], ends, own)
        return TAKE

    def _check_length(self, size: int) -> None:
        if size <= frames.OWN_FRAME_BYTES:
            return
        limit = self._reader_settings.loosest(frames.SETTINGS_MAX_FRAME_SIZE)
        if size > min(limit, FRAME_BYTES):
            raise FrameError(frames.FRAME_SIZE_ERROR, f"DATA frame of {size} bytes, over {limit}")

    @staticmethod
    def _unpadded(data: bytes, start: int, end: int, flags: int) -> tuple[int, int]:
        try:
            return frames.unpadded(data, start, end, flags)
        except ValueError as error:
            raise FrameError(frames.PROTOCOL_ERROR, f"DATA: {error}") from error

    # -- header blocks -----------------------------------------------------------------

    @abstractmethod
    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.2."""

    def on_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.10."""
        if self._decoding:
            return self._decode()
        if end > len(data):
            return self._part_of_block(end - start)
        if stream != self._block.stream or not self._block.goes_on:
            return PASS  # a protocol error, which the other end answers
        return self._fragment(data, start, end, flags, data[start:end])

    def _known(self, data: bytes, start: int, end: int, flags: int) -> list[Field] | None:
        """The fields of a plain HEADERS frame whose whole block is known, as most are.

        None where there is more to do than to look at them: also while anything waits.
        """
        if flags & _IN_PARTS != frames.END_HEADERS or end > len(data) or self._ledger.held:
            return None
        if self._decoding or self._block.goes_on or self._state.lost:
            return None
        return self.decoder.known(data[start:end])

    @staticmethod
    def _part_of_block(size: int) -> Verdict:
        """A block's frame of which more is to come. Raises FrameError when it is too long."""
        if size > HEADER_BLOCK_BYTES:
            raise FrameError(frames.ENHANCE_YOUR_CALM, "header block over 1 MiB")
        return WHOLE

    def _fragment(self, data: bytes, start: int, end: int, flags: int, fragment: bytes) -> Verdict:
        """Take a frame of the open block into account; `fragment` is its part of the block."""
        if self._keep_block:
            self._block.frames.append(data[start - frames.FRAME_HEADER_BYTES : end])
        block = self._block.add(fragment, flags)
        if block is not None:
            self._changes = self.decoder.changes
            return self._decode(block)
        if self._keep_block:
            return TAKE
        self._out.in_block = True
        return PASS

    def _decode(self, block: bytes | None = None) -> Verdict:
        """Decode a piece of the whole block, its first if it is given.

        What it means is seen at the last.

        Until then the block's last frame is one that is still to come.
        """
        fields: list[Field] | None = []
        if not self._state.lost:
            try:
                fields = self.decoder.go_on() if block is None else self.decoder.begin(block)
            except HeaderDecodeError as error:
                self._undecodable(error)
        self._decoding = fields is None
        if fields is not None:
            return self._block_whole(fields)
        if not self._keep_block:
            self._out.in_block = True
        return AGAIN

    @abstractmethod
    def _undecodable(self, error: HeaderDecodeError) -> None:
        """A block cannot be decoded, and no later one."""

    @abstractmethod
    def _block_whole(self, fields: list[Field]) -> Verdict:
        """The open block's last frame is here; without fields where it is not decoded."""

    @property
    def _block_changed(self) -> bool:
        """Whether the open block makes a difference to its reader's table."""
        return self.decoder.changes != self._changes or self._state.lost

    # -- settings ----------------------------------------------------------------------

    def on_settings(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.5. Settings of this side, or its ACK of the other side's."""
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        if flags & frames.ACK:
            return self._ack(data[start - frames.FRAME_HEADER_BYTES : end])
        if (end - start) % 6 == 0:
            before = self._settings.window
            self._settings.announce(data[start:end])
            self._resize_back(self._settings.window - before)
            size = self._settings.loosest(frames.SETTINGS_HEADER_TABLE_SIZE)
            self.peer.allow_table(min(size, HEADER_TABLE_BYTES))
        return PASS

    def _ack(self, ack: bytes) -> Verdict:
        """Must not overtake queued header blocks, nor queued DATA if it makes windows smaller."""
        queue = self._flow.queue
        shrinks = self._reader_settings.next_shrinks(_WINDOW)
        if queue.blocks_wait or (shrinks and queue.untracked_waits):
            queue.add_ack(ack, self._acknowledged)
            queue.check()
            return TAKE
        self._acknowledged()
        return PASS

    def _acknowledged(self) -> None:
        before = self._reader_settings.window
        self._reader_settings.acknowledge()
        self._resize(self._reader_settings.window - before)

    # -- the rest ----------------------------------------------------------------------

    @abstractmethod
    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.4."""

    @abstractmethod
    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.9."""
