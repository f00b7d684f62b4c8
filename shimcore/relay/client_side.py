"""Frames that the client sends: methods, held requests, windows of request bytes."""

from __future__ import annotations

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.direction import PASS, TAKE, WHOLE, Direction
from shimcore.relay.events import StreamBegan
from shimcore.relay.headers import Field, HeaderDecodeError
from shimcore.relay.limits import (
    FRAME_BYTES,
    HEADER_TABLE_BYTES,
    METHOD_BYTES,
    TRACKED_STREAMS,
)
from shimcore.relay.messages import timeout_seconds
from shimcore.relay.scanner import Verdict
from shimcore.relay.streams import (
    GRPC_CANCELLED,
    OpenedStream,
    Phase,
)


class ClientSide(Direction):
    """What the client sends, on its way to upstream."""

    # -- DATA --------------------------------------------------------------------------

    def on_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.1. Other calls' DATA is only counted; an opened call's is held."""
        state = self._state
        ledger = state.ledger
        opened = state.opened.get(stream)
        if opened is None:
            if not ledger.held and not ledger.debt:
                ledger.upstream -= end - start
                return PASS
            return self._others_data(data, start, end, flags, stream)
        self._check_length(end - start)
        if end > len(data):
            return WHOLE
        try:
            first, last = frames.unpadded(data, start, end, flags)
        except ValueError as error:
            raise FrameError(frames.PROTOCOL_ERROR, f"DATA: {error}") from error
        opened.ended = opened.ended or bool(flags & frames.END_STREAM)
        return self._opened_data(opened, data, start, end, memoryview(data)[first:last])

    def _opened_data(
        self, opened: OpenedStream, data: bytes, start: int, end: int, payload: memoryview
    ) -> Verdict:
        state = self._state
        if opened.phase is Phase.GATHERING:
            state.hold(opened, payload, end - start)
            state.advance(opened)
            return TAKE
        if opened.phase is Phase.DECIDING:
            state.hold(opened, payload, end - start)
            if payload:
                state.release(opened)
            return TAKE
        if opened.phase is Phase.SWALLOWED:
            state.receive(end - start)
            state.ledger.replace(end - start, 0)
            state.settle(None)
            if opened.ended:
                del state.opened[opened.id]
            return TAKE
        return self._released_data(opened, data, start, end, payload)

    def _released_data(
        self, opened: OpenedStream, data: bytes, start: int, end: int, payload: memoryview
    ) -> Verdict:
        """What follows a message that has gone on: passes while the windows have room."""
        state = self._state
        size = end - start
        ledger, own = state.ledger, opened.ledger
        # Upstream may accept a longer frame only once a queued ACK of its settings has gone.
        fits = size <= frames.OWN_FRAME_BYTES or not state.queue.ack_waits
        fits = fits and size <= min(ledger.upstream, own.upstream)
        if fits and not state.queue.waits(opened.id):
            ledger.upstream -= size
            own.upstream -= size
            return PASS
        state.receive(size)
        own.receive(size)
        padding = size - len(payload)
        ledger.replace(padding, 0)
        own.replace(padding, 0)
        state.settle(opened)
        state.queue.add_data(opened.id, bytes(payload), opened.ended, own)
        return TAKE

    def _others_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """DATA of a call that was not opened, while the two windows differ."""
        state = self._state
        size = end - start
        queue = state.queue
        if size <= state.ledger.upstream and not (queue.ack_waits or queue.waits(stream)):
            state.ledger.upstream -= size
            state.grant(None)
            return PASS
        self._check_length(size)
        if end > len(data):
            return WHOLE
        try:
            first, last = frames.unpadded(data, start, end, flags)
        except ValueError as error:
            raise FrameError(frames.PROTOCOL_ERROR, f"DATA: {error}") from error
        state.receive(end - start)
        state.ledger.replace(end - start - (last - first), 0)
        state.settle(None)
        state.queue.add_data(stream, data[first:last], bool(flags & frames.END_STREAM), None)
        return TAKE

    def _check_length(self, size: int) -> None:
        limit = self._upstream_settings.loosest(frames.SETTINGS_MAX_FRAME_SIZE)
        if size > min(limit, FRAME_BYTES):
            raise FrameError(frames.FRAME_SIZE_ERROR, f"DATA frame of {size} bytes, over {limit}")

    # -- header blocks -----------------------------------------------------------------

    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.2. Every block is decoded, since each may change the decoder's table."""
        state = self._state
        if end > len(data):
            return self._part_of_block(end - start)
        self._block.start(stream, flags)
        opened = state.opened.get(stream)
        if opened is not None and opened.holding:
            state.release(opened)  # trailers before a decision: not a unary request
        # Nothing waits in the queue while no byte is held.
        self._keep_block = opened is not None or (
            state.ledger.held > 0 and (state.queue.blocks_wait or state.queue.waits(stream))
        )
        try:
            fragment = frames.header_fragment(data, start, end, flags)
        except ValueError as error:
            state.lose(f"malformed HEADERS from the client: {error}")
            fragment = b""
        return self._fragment(data, start, end, flags, fragment)

    def _fragment(self, data: bytes, start: int, end: int, flags: int, fragment: bytes) -> Verdict:
        state = self._state
        if self._keep_block:
            self._block.frames.append(data[start - frames.FRAME_HEADER_BYTES : end])
        else:
            state.to_upstream.in_block = not flags & frames.END_HEADERS
        block = self._block.add(fragment, flags)
        before = self.decoder.changes
        if block is not None:
            self._block_whole(block)
        if not self._keep_block:
            return PASS
        if block is not None:
            changed = self.decoder.changes != before or state.lost
            self._kept_block_whole(changed=changed)
        return TAKE

    def _kept_block_whole(self, *, changed: bool) -> None:
        """Send a kept block in its turn.

        Upstream has reset a swallowed call: it gets such a block only if its header table
        would fall out of step without it.
        """
        state, stream = self._state, self._block.stream
        opened = state.opened.get(stream)
        swallowed = opened is not None and opened.phase is Phase.SWALLOWED
        if changed or not swallowed:
            state.queue.add_block(stream, b"".join(self._block.frames))
            state.queue.check()
        if swallowed and self._block.flags & frames.END_STREAM:
            del state.opened[stream]

    def _block_whole(self, block: bytes) -> None:
        state = self._state
        if state.lost:
            return
        try:
            fields = self.decoder.decode(block)
        except HeaderDecodeError as error:
            state.lose(f"the client's headers cannot be decoded: {error}")
            return
        stream = self._block.stream
        if stream > state.last_stream:
            self._new_stream(stream, fields)
        elif self._block.flags & frames.END_STREAM:
            opened = state.opened.get(stream)
            if opened is not None:
                opened.ended = True

    def _new_stream(self, stream: int, fields: list[Field]) -> None:
        state = self._state
        state.last_stream = stream
        path = b""
        for name, value in fields:
            if name == b":path":
                path = value if len(value) <= METHOD_BYTES else value[:METHOD_BYTES]
                break
        if len(state.live) + len(state.opened) >= TRACKED_STREAMS:
            raise FrameError(frames.ENHANCE_YOUR_CALM, f"over {TRACKED_STREAMS} open streams")
        state.live[stream] = path
        if state.watched:
            state.events.append(StreamBegan(stream, path))
        if self._block.flags & frames.END_STREAM or not state.opens(path):
            return
        named = dict(fields)
        state.opened[stream] = OpenedStream(
            stream,
            path,
            named.get(b"grpc-encoding", b"identity"),
            timeout_seconds(named.get(b"grpc-timeout", b"")),
            self._upstream_settings.strictest(frames.SETTINGS_INITIAL_WINDOW_SIZE),
        )

    # -- the rest ----------------------------------------------------------------------

    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.4. The client gives a call up: what is held of it is dropped."""
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        state = self._state
        state.ended(stream, GRPC_CANCELLED)
        opened = state.opened.pop(stream, None)
        if opened is not None:
            if opened.phase is Phase.SWALLOWED:
                return TAKE  # upstream has had a reset already
            state.report(opened, GRPC_CANCELLED)
            state.drop(opened)
        elif state.queue:
            state.drop_queued(stream)
        if state.queue.waits(stream):
            state.queue.add_frame(stream, data[start - frames.FRAME_HEADER_BYTES : end])
            state.queue.check()
            return TAKE
        return PASS

    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.9. Passes, but not before the HEADERS of its stream."""
        queue = self._state.queue
        if not (queue.blocks_wait and stream and queue.waits(stream)):
            return PASS
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        queue.add_frame(stream, data[start - frames.FRAME_HEADER_BYTES : end])
        queue.check()
        return TAKE

    def on_settings(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.5. The ACK of upstream's settings, or settings of the client's own."""
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        if flags & frames.ACK:
            return self._ack(data[start - frames.FRAME_HEADER_BYTES : end])
        if (end - start) % 6 == 0:
            self._client_settings.announce(data[start:end])
            size = self._client_settings.loosest(frames.SETTINGS_HEADER_TABLE_SIZE)
            self.peer.allow_table(min(size, HEADER_TABLE_BYTES))
        return PASS

    def _ack(self, ack: bytes) -> Verdict:
        """Must not overtake queued header blocks, nor queued DATA if it makes windows smaller."""
        queue, settings = self._state.queue, self._upstream_settings
        shrinks = settings.next_shrinks(frames.SETTINGS_INITIAL_WINDOW_SIZE)
        if queue.blocks_wait or (shrinks and queue.untracked_waits):
            queue.add_ack(ack, self._acknowledged)
            queue.check()
            return TAKE
        self._acknowledged()
        return PASS

    def _acknowledged(self) -> None:
        before = self._upstream_settings.strictest(frames.SETTINGS_INITIAL_WINDOW_SIZE)
        self._upstream_settings.acknowledge()
        after = self._upstream_settings.strictest(frames.SETTINGS_INITIAL_WINDOW_SIZE)
        self._state.resize_streams(after - before)
