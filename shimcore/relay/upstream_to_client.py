"""Frames that upstream sends: outcomes of opened calls, window credit on its way back."""

from __future__ import annotations

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.direction import PASS, TAKE, WHOLE, Direction
from shimcore.relay.headers import Field, HeaderDecodeError, HeaderDecoder
from shimcore.relay.limits import REPLY_BYTES
from shimcore.relay.messages import (
    GRPC_CANCELLED,
    GRPC_INTERNAL,
    GRPC_UNAVAILABLE,
    GRPC_UNKNOWN,
    PREFIX_BYTES,
    status_text,
)
from shimcore.relay.opened import OpenedStream, Phase
from shimcore.relay.scanner import Handler, Verdict
from shimcore.relay.settings import AnnouncedSettings
from shimcore.relay.streams import ConnectionState


class UpstreamToClient(Direction):
    """What upstream sends, on its way to the client."""

    def __init__(self, settings: AnnouncedSettings, reader_settings: AnnouncedSettings) -> None:
        super().__init__(settings, reader_settings)
        # The smallest table acknowledged while the decoder's stood at that change.
        self._owed_size = frames.MAX_WINDOW, 0

    def attach(self, state: ConnectionState, peer: HeaderDecoder) -> None:
        """Its DATA are replies."""
        self._state, self.peer, self._out = state, peer, state.to_client
        self._flow, self._ledger = state.replies, state.replies.ledger
        self._resize, self._resize_back = state.resize_replies, state.resize_requests

    def handlers(self) -> list[Handler | None]:
        """A server may push, in HTTP/2 at large."""
        table = super().handlers()
        table[frames.PUSH_PROMISE] = self.on_push_promise
        return table

    # -- DATA --------------------------------------------------------------------------

    def on_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.1. Is only counted, except that of opened calls, or while the windows differ."""
        state = self._state
        if state.refused and stream in state.refused:
            return self._refused_data(data, start, end, flags, stream)
        ledger = self._ledger
        opened = state.opened.get(stream)
        if opened is not None:
            verdict = self._opened_data(opened, data, start, end, flags)
        elif ledger.held or ledger.debt:
            verdict = self._pass_or_wait(data, start, end, flags, stream, None)
        else:
            ledger.room -= end - start
            verdict = PASS
        if flags & frames.END_STREAM and verdict is not WHOLE:
            self._ended(stream, GRPC_UNKNOWN)
        return verdict

    def _opened_data(
        self, opened: OpenedStream, data: bytes, start: int, end: int, flags: int
    ) -> Verdict:
        """The first bytes of an opened call's answer are looked at."""
        if opened.answering:
            return self._refused_data(data, start, end, flags, opened.id)
        if len(opened.answer) < PREFIX_BYTES and end > len(data) < start + PREFIX_BYTES + 1:
            return WHOLE
        ledger = self._ledger
        verdict = PASS
        if ledger.held or ledger.debt:
            verdict = self._pass_or_wait(data, start, end, flags, opened.id, None)
        else:
            ledger.room -= end - start
        if verdict is WHOLE:
            return WHOLE
        opened.reply.room -= end - start
        missing = PREFIX_BYTES - len(opened.answer)
        if not missing and verdict is PASS:
            return PASS
        try:
            first, last = frames.unpadded(data, start, end, flags)
        except ValueError:
            return PASS  # an error, which is the client's to answer
        if verdict is TAKE:  # the padding has been credited
            opened.reply.room += end - start - (last - first)
        opened.answer += data[first : min(first + missing, last)]
        return verdict

    def _refused_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """Late DATA of a call that the shim has answered: the client must not see it."""
        if end > len(data):
            return WHOLE
        self._flow.drop(end - start)
        if flags & frames.END_STREAM:
            self._state.refused.pop(stream, None)
        return TAKE

    def _receive(self, size: int) -> None:
        if size and size > self._ledger.seen:
            raise frames.flow_control_error("the runtime")
        if self._ledger.held + size > REPLY_BYTES:
            raise FrameError(frames.ENHANCE_YOUR_CALM, f"over {REPLY_BYTES} bytes of answers wait")
        self._ledger.receive(size)

    # -- header blocks -----------------------------------------------------------------

    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.2. Response headers, or the trailers with the call's status."""
        fields = self._known(data, start, end, flags)
        if fields is None or self._is_late(stream):
            return self._open_block(data, start, end, flags, stream, 0)
        self._look_at(stream, flags, fields)
        return PASS

    def on_push_promise(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.6. Never sent by a gRPC server; its block counts for the table all the same."""
        return self._open_block(
            data, start, end, flags & ~(frames.END_STREAM | frames.PRIORITY_FLAG), stream, 4
        )

    def _open_block(
        self, data: bytes, start: int, end: int, flags: int, stream: int, skip: int
    ) -> Verdict:
        if self._decoding:
            return self._decode()
        if end > len(data):
            return self._part_of_block(end - start)
        self._block.start(stream, flags)
        state = self._state
        known = stream in state.refused or stream in state.opened
        self._keep_block = known and self._is_late(stream)
        if self._ledger.held:  # nothing waits in the queue while no byte is held
            queue = self._flow.queue
            self._keep_block |= queue.blocks_wait or queue.waits(stream)
            queue.make_last(stream)  # while the decoder is where it has to be for that one
        try:
            fragment = frames.header_fragment(data, start, end, flags)[skip:]
        except ValueError as error:
            state.lose(f"malformed HEADERS from the runtime: {error}")
            fragment = b""
        return self._fragment(data, start, end, flags, fragment)

    def _undecodable(self, error: HeaderDecodeError) -> None:
        self._state.lose(f"the runtime's headers cannot be decoded: {error}")

    def _block_whole(self, fields: list[Field]) -> Verdict:
        late = self._keep_block and self._is_late(self._block.stream)
        self._look_at(self._block.stream, self._block.flags, fields)
        if not self._keep_block:
            self._state.to_client.in_block = False
            return PASS
        if self._block_changed or not late:
            self._flow.queue.add_block(self._block.stream, b"".join(self._block.frames))
            self._flow.queue.check()
        return TAKE

    def _is_late(self, stream: int) -> bool:
        """Whether the shim has answered a call, so that the client must not see more of it."""
        state = self._state
        opened = state.opened.get(stream)
        return stream in state.refused or (opened is not None and opened.answering)

    def _look_at(self, stream: int, flags: int, fields: list[Field]) -> None:
        state = self._state
        opened = state.opened.get(stream)
        if not flags & frames.END_STREAM:
            if opened is not None and not _informational(fields):
                opened.answered = True
            return
        status, text = GRPC_UNKNOWN, ""
        if opened is not None or state.watched:
            status = _status(fields)
        if status and opened is not None and opened.awaited:
            text = next((status_text(v) for n, v in fields if n == b"grpc-message"), "")
        self._ended(stream, status, text)

    def _ended(self, stream: int, status: int, text: str = "") -> None:
        """Upstream has sent END_STREAM."""
        state = self._state
        state.refused.pop(stream, None)
        opened = state.opened.get(stream)
        if opened is not None and opened.answering:
            return
        state.client.finished()
        state.ended(stream, status)
        if opened is not None and opened.phase is not Phase.SWALLOWED:
            state.finish(opened, status, text)

    def passing_block(self, stream: int) -> int | None:
        """The HEADERS flags of a stream's block of which only a part has gone out."""
        if self._state.to_client.in_block and self._block.stream == stream:
            return self._block.flags
        return None

    def owed_size_update(self) -> bytes:
        """A table size update that the client's decoder waits for (RFC 7541 §4.2).

        Upstream's encoder sends its own with its next block. Until then this one puts the
        client, and the decoder here, where upstream's encoder has been meanwhile. A block
        that is on its way carries what was owed.
        """
        if self._state.to_client.in_block:
            return b""
        smallest, changes = self._owed_size
        if self.decoder.changes != changes or self.decoder.max_bytes <= smallest:
            return b""
        self.decoder.resize(smallest)
        return frames.size_update(smallest)

    # -- the rest ----------------------------------------------------------------------

    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.4."""
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        state = self._state
        if self._is_late(stream):
            state.refused.pop(stream, None)
            return TAKE
        status = _reset_status(int.from_bytes(data[start:end], "big"))
        state.ended(stream, status)
        opened = state.opened.pop(stream, None)
        if opened is not None:
            state.report(opened, status)
            state.drop(opened)
        elif state.queue:
            state.requests.drop_queued(stream)
        queue = self._flow.queue
        if self._ledger.held and queue.waits(stream):  # behind what came before it
            queue.add_frame(stream, data[start - frames.FRAME_HEADER_BYTES : end])
            queue.check()
            return TAKE
        return PASS

    def on_settings(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.5. The client may be spoken to once these have gone to it."""
        verdict = super().on_settings(data, start, end, flags, stream)
        if end <= len(data) and not flags & frames.ACK:
            self._state.to_client.unlock()
        return verdict

    def _ack(self, ack: bytes) -> Verdict:
        """Remember the smallest table that upstream's encoder owes the client since then."""
        size = self._reader_settings.ack_arrives(frames.SETTINGS_HEADER_TABLE_SIZE)
        smallest, changes = self._owed_size
        if changes == self.decoder.changes:
            size = min(size, smallest)
        self._owed_size = size, self.decoder.changes
        return super()._ack(ack)

    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.9. What the client was told too early is withheld from it here."""
        state = self._state
        opened = state.opened.get(stream)
        if stream and opened is None and stream not in state.refused:
            return PASS
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        if self._is_late(stream):
            return TAKE
        increment = int.from_bytes(data[start:end], "big") & frames.MAX_WINDOW
        if end - start != 4 or not increment:
            return PASS  # an error, which is the client's to answer
        ledger = state.ledger if opened is None else opened.ledger
        passed = ledger.update(increment)
        if state.queue:
            state.queue.flush()
        if passed == increment:
            return PASS
        state.requests.credit(stream, passed)
        state.grant(opened)
        return TAKE


def _informational(fields: list[Field]) -> bool:
    """Whether a header block is a 1xx response (§8.1)."""
    return bool(fields) and fields[0][0] == b":status" and fields[0][1].startswith(b"1")


def _status(fields: list[Field]) -> int:
    """grpc-status of the trailers; UNKNOWN when it is missing or not a number."""
    for name, value in reversed(fields):
        if name == b"grpc-status":
            return int(value) if value.isdigit() and len(value) <= 3 else GRPC_UNKNOWN
    return GRPC_UNKNOWN


def _reset_status(code: int) -> int:
    """The gRPC status that a client derives from a RST_STREAM (gRPC over HTTP/2, "Errors")."""
    if code == frames.CANCEL:
        return GRPC_CANCELLED
    if code == frames.REFUSED_STREAM:
        return GRPC_UNAVAILABLE
    return GRPC_INTERNAL
