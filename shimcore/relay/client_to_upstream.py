"""Frames that the client sends: methods, held requests, PINGs, credit for replies."""

from __future__ import annotations

from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.heldcall import Forward
from shimcore.relay import frames
from shimcore.relay.direction import PASS, TAKE, WHOLE, Direction
from shimcore.relay.events import StreamBegan
from shimcore.relay.headers import (
    ExcessiveHeadersError,
    Field,
    HeaderDecodeError,
    HeaderDecoder,
)
from shimcore.relay.limits import METHOD_BYTES, TRACKED_STREAMS
from shimcore.relay.messages import (
    GRPC_CANCELLED,
    PREFIX_BYTES,
    callers_metadata,
    is_message,
    timeout_seconds,
)
from shimcore.relay.opened import OpenedStream, Phase
from shimcore.relay.route import Route, disguised
from shimcore.relay.scanner import Handler, Verdict
from shimcore.relay.settings import AnnouncedSettings
from shimcore.relay.streams import ConnectionState


class ClientToUpstream(Direction):
    """What the client sends, on its way to upstream."""

    def __init__(self, settings: AnnouncedSettings, reader_settings: AnnouncedSettings) -> None:
        super().__init__(settings, reader_settings)
        self.drop_answer: Callable[[OpenedStream], None]
        # A strict call that has just begun and cannot be read, and why.
        self._refuse_now: tuple[OpenedStream, str] | None = None

    def attach(self, state: ConnectionState, peer: HeaderDecoder) -> None:
        """Its DATA are requests."""
        self._state, self.peer, self._out = state, peer, state.to_upstream
        self._flow, self._ledger = state.requests, state.requests.ledger
        self._resize, self._resize_back = state.resize_requests, state.resize_replies

    def handlers(self) -> list[Handler | None]:
        """PINGs of the client end here."""
        table = super().handlers()
        table[frames.PING] = self.on_ping
        return table

    # -- DATA --------------------------------------------------------------------------

    def on_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.1. Other calls' DATA is only counted; an opened call's is held."""
        state = self._state
        ledger = self._ledger
        opened = state.opened.get(stream)
        if opened is None:
            if not ledger.held and not ledger.debt:
                ledger.room -= end - start
                return PASS
            verdict = self._pass_or_wait(data, start, end, flags, stream, None)
            if verdict is PASS:
                state.grant(None)
            return verdict
        self._check_length(end - start)
        if end > len(data):
            return WHOLE
        first, last = self._unpadded(data, start, end, flags)
        opened.ended = opened.ended or bool(flags & frames.END_STREAM)
        if opened.phase is Phase.RELEASED:
            return self._pass_or_wait(data, start, end, flags, stream, opened.ledger)
        payload = memoryview(data)[first:last]
        first_and_last = opened.ended and not opened.gathered
        if opened.phase is Phase.GATHERING and first_and_last and is_message(payload):
            return self._whole_at_once(opened, data, start, end, flags, payload)
        return self._opened_data(opened, start, end, payload)

    def _whole_at_once(
        self,
        opened: OpenedStream,
        data: bytes,
        start: int,
        end: int,
        flags: int,
        payload: memoryview,
    ) -> Verdict:
        """A request in one frame: it is not held where it is known to go on as it came."""
        state = self._state
        decision = state.decided_now(opened, bytes(payload[PREFIX_BYTES:]))
        if isinstance(decision, Forward) and decision.message is None:
            opened.phase, opened.awaited = Phase.RELEASED, True
            verdict = self._pass_or_wait(data, start, end, flags, opened.id, opened.ledger)
            if self._ledger.held:
                state.grant(None)
            return verdict
        state.hold(opened, payload, end - start)
        state.apply(opened, decision)
        return TAKE

    def _opened_data(
        self, opened: OpenedStream, start: int, end: int, payload: memoryview
    ) -> Verdict:
        state = self._state
        if opened.phase is Phase.GATHERING:
            state.hold(opened, payload, end - start)
            state.advance(opened)
            return TAKE
        if opened.phase is Phase.DECIDING:
            state.hold(opened, payload, end - start)
            if payload:
                state.release(opened, "bytes after the message")
            return TAKE
        state.receive(end - start)
        state.ledger.replace(end - start, 0)
        state.requests.settle()
        state.forget_swallowed(opened)
        return TAKE

    def _receive(self, size: int) -> None:
        self._state.receive(size)

    # -- header blocks -----------------------------------------------------------------

    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.2. Every block is decoded, since each may change the decoder's table."""
        state = self._state
        if stream > state.last_stream:
            fields = self._known(data, start, end, flags)
            if fields is not None:
                self._new_stream(stream, flags, fields)
                self._refuse_unread()
                return PASS
        if self._decoding:
            return self._decode()
        if end > len(data):
            return self._part_of_block(end - start)
        self._block.start(stream, flags)
        opened = state.opened.get(stream)
        if opened is not None and opened.holding:
            state.release(opened, "trailers")  # before a decision: not a unary request
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

    def _undecodable(self, error: HeaderDecodeError) -> None:
        if isinstance(error, ExcessiveHeadersError):
            raise FrameError(frames.ENHANCE_YOUR_CALM, str(error)) from error
        self._state.lose(f"the client's headers cannot be decoded: {error}")

    def _block_whole(self, fields: list[Field]) -> Verdict:
        state = self._state
        if not state.lost:
            self._look_at(fields)
        if self._keep_block:
            self._kept_block_whole()
        else:
            state.to_upstream.in_block = False
        self._refuse_unread()
        return TAKE if self._keep_block else PASS

    def _refuse_unread(self) -> None:
        """End a call that cannot be read, behind its HEADERS."""
        if self._refuse_now is not None:
            self._state.release(*self._refuse_now)
            self._refuse_now = None

    def _kept_block_whole(self) -> None:
        """Send a kept block in its turn.

        Upstream has reset a swallowed call: it gets such a block only if its header table
        would fall out of step without it.
        """
        state, stream = self._state, self._block.stream
        opened = state.opened.get(stream)
        swallowed = opened is not None and opened.phase is Phase.SWALLOWED
        if self._block_changed or not swallowed:
            state.queue.add_block(stream, b"".join(self._block.frames))
            state.queue.check()
        if opened is not None and swallowed and self._block.flags & frames.END_STREAM:
            opened.ended = True
            state.forget_swallowed(opened)

    def _look_at(self, fields: list[Field]) -> None:
        state = self._state
        stream = self._block.stream
        if stream > state.last_stream:
            self._new_stream(stream, self._block.flags, fields)
        elif self._block.flags & frames.END_STREAM:
            opened = state.opened.get(stream)
            if opened is not None:
                opened.ended = True

    def _new_stream(self, stream: int, flags: int, fields: list[Field]) -> None:
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
        state.client.began()
        if state.watched:
            state.events.append(StreamBegan(stream, path))
        ends = bool(flags & frames.END_STREAM)
        state.count(path)
        route = state.route(path)
        if route is not Route.PASS or state.strict():
            self._open(stream, path, fields, route, ends=ends)

    def _open(
        self, stream: int, path: bytes, fields: list[Field], route: Route, *, ends: bool
    ) -> None:
        """Hold a call's request, if its method says so."""
        state = self._state
        strict, why = route is Route.STRICT, ""
        if (strict or state.strict()) and disguised(path, fields, state.route):
            strict, why = True, "an odd :path"
        elif strict and ends:
            why = "no message"
        elif strict and sum(name == b"grpc-encoding" for name, _ in fields) > 1:
            why = "several encodings"
        if not strict and (ends or route is Route.PASS):
            return
        named = dict(fields)
        opened = state.opened[stream] = OpenedStream(
            stream,
            path,
            named.get(b"grpc-encoding", b"identity"),
            timeout_seconds(named.get(b"grpc-timeout", b"")),
            long=strict or route is Route.LONG,
            strict=strict,
            windows=(self._reader_settings.window, self._settings.window),
        )
        opened.ended = ends
        if why:
            self._refuse_now = opened, why
        elif metadata := callers_metadata(fields):
            state.keep_metadata(opened, metadata)

    # -- the rest ----------------------------------------------------------------------

    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.4. The client gives a call up: what is held of it is dropped."""
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        state = self._state
        if stream in state.live:
            state.client.given_up()
        state.ended(stream, GRPC_CANCELLED)
        opened = state.opened.pop(stream, None)
        if opened is not None and opened.answering:
            self.drop_answer(opened)
        if opened is not None and opened.phase is Phase.SWALLOWED:
            return TAKE  # upstream has had a reset already
        if opened is None and stream in state.refused:
            return TAKE
        if opened is not None:
            state.report(opened, GRPC_CANCELLED)
            state.drop(opened)
        elif state.queue:
            state.requests.drop_queued(stream)
        if state.replies.queue:
            state.replies.drop_queued(stream)
        if state.queue.waits(stream):
            state.queue.add_frame(stream, data[start - frames.FRAME_HEADER_BYTES : end])
            state.queue.check()
            return TAKE
        return PASS

    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.9. Room for replies; it passes, less what upstream's window has to shrink by."""
        state = self._state
        opened = None
        if stream:
            opened = state.opened.get(stream)
            waits = state.ledger.held and state.queue.blocks_wait and state.queue.waits(stream)
            if opened is None and not waits and stream not in state.refused:
                return PASS
        if end > len(data):
            return WHOLE if end - start <= frames.OWN_FRAME_BYTES else PASS
        increment = int.from_bytes(data[start:end], "big") & frames.MAX_WINDOW
        if end - start != 4 or not increment:
            return PASS  # an error, which is upstream's to answer
        if not stream:
            return self._connection_update(increment)
        if opened is not None:
            opened.reply.room += increment
        if stream in state.refused or (opened is not None and opened.phase is Phase.SWALLOWED):
            state.replies.queue.flush()
        elif waits:  # not before the HEADERS of its stream
            state.queue.add_frame(stream, data[start - frames.FRAME_HEADER_BYTES : end])
            state.queue.check()
        else:
            return PASS
        return TAKE

    def _connection_update(self, increment: int) -> Verdict:
        replies = self._state.replies
        ledger = replies.ledger
        if not ledger.held and not ledger.debt:
            ledger.room += increment
            return PASS
        passed = ledger.update(increment)
        replies.queue.flush()
        if passed == increment:
            return PASS
        replies.credit(0, passed)
        return TAKE

    def on_ping(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.7. Answered here: PINGs go hop by hop, and upstream counts those that it gets.

        What is malformed is upstream's to judge, and its own PINGs are the client's to answer.
        """
        if stream or flags & frames.ACK or end - start != frames.PING_BYTES:
            return PASS
        if end > len(data):
            return WHOLE
        state = self._state
        state.last_ack = frames.frame(frames.PING, frames.ACK, 0, data[start:end])
        state.to_client.inject(state.last_ack)
        return TAKE
