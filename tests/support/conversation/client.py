"""The client of a conversation: calls of all shapes, and what it gets for them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from contextlib import suppress

import h2.events
import h2.exceptions

from shimcore.relay.limits import INFLATED_BYTES
from shimcore.relay.messages import write_message
from tests.support.conversation.state import OPENED, PLAIN, Call, Headers, Talk


class ClientSide(Talk):
    """What the client says, and what it is told."""

    def new_call(self) -> bool:
        unfinished = sum(not call.client_done for call in self.calls.values())
        if not self.calls_left or unfinished >= self.max_calls_open:
            return False
        self.calls_left -= 1
        rng = self.random
        opened = rng.random() < 0.6
        stream = self.client.get_next_available_stream_id()
        compressed = rng.random() < 0.2
        size = rng.choice([0, 1, 30, 30, 200, 1500])
        if self.large and rng.random() < 0.3:
            size = rng.randint(10_000, 120_000)
        message: bytes | None = rng.randbytes(size)
        assert message is not None
        body = write_message(message)
        swells = compressed and self.known.random() < self.swells
        if compressed:
            if swells:
                message = bytes(self.known.randint(INFLATED_BYTES, 4 * INFLATED_BYTES))
            packed = gzip.compress(message)
            body = b"\1" + len(packed).to_bytes(4, "big") + packed
        first_bytes = len(body)
        kind = rng.random()
        if kind < 0.06:
            message, body = None, b""
        elif kind < 0.12:
            body += write_message(b"second")
        elif kind < 0.16:
            message, body = None, b"\7" + body[1:]
        elif kind < 0.2:
            message, body = None, body[: rng.randint(0, max(0, len(body) - 1))]
        path = OPENED if opened else PLAIN
        call = Call(stream, opened, body, kind >= 0.2, message, rng.random() < 0.08, None)
        if swells:  # it may be let go before it is read
            call.trailers = call.trailers or self.known.random() < 0.5
        if not self.calm and rng.random() < 0.15:
            call.resets_after = rng.randint(0, len(body))
        call.first_bytes = first_bytes
        self.calls[stream] = call
        headers: Headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path)]
        headers += [(b":authority", b"localhost"), (b"grpc-timeout", b"5S")]
        if compressed:
            headers.append((b"grpc-encoding", b"gzip"))
        headers += self.metadata()
        ends = not body and rng.random() < 0.5
        self.client.send_headers(stream, headers, end_stream=ends)
        if ends:
            call.client_done, call.trailers = True, False
        self.collect()
        return True

    def client_send(self) -> bool:
        waiting = [call for call in self.calls.values() if not call.client_done]
        if not waiting:
            return False
        call = self.random.choice(waiting)
        if call.resets_after is not None and call.sent >= call.resets_after:
            return self.client_reset(call)
        if call.response_ended and self.random.random() < 0.3:
            return self.client_reset(call)
        return self.client_send_data(call)

    def client_reset(self, call: Call) -> bool:
        with suppress(h2.exceptions.StreamClosedError):
            self.client.reset_stream(call.stream, 8)
        call.client_done = call.client_reset = True
        self.collect()
        return True

    def client_send_data(self, call: Call) -> bool:
        left = len(call.body) - call.sent
        stream = self.client.streams.get(call.stream)
        if stream is None or stream.closed:  # by h2, at a late frame of a refused call
            assert call.stream in self.client.forgotten
            call.client_done = True
            return True
        room = self.client.local_flow_control_window(call.stream)
        room = min(room, self.client.max_outbound_frame_size)
        if left and room <= 0:
            return False
        size = max(0, min(left, room))
        if self.random.random() < 0.5:
            size = self.random.randint(0, size)
        pad: int | None = None
        if self.random.random() < 0.3 and room - size > 1:
            pad = self.random.randint(0, min(room - size - 1, 255))
        last = size == left and self.random.random() < 0.7
        ends = last and not call.trailers
        self.client.send_data(
            call.stream, call.body[call.sent : call.sent + size], end_stream=ends, pad_length=pad
        )
        call.sent += size
        if last and call.trailers:
            self.client.send_headers(
                call.stream, [(b"x-end", b"1"), *self.metadata()], end_stream=True
            )
        call.client_done = last
        self.collect()
        return True

    def client_events(self, events: Iterable[object]) -> None:
        for event in events:
            if isinstance(event, h2.events.PingAckReceived):
                self.pongs["client"] += 1
            if isinstance(event, h2.events.SettingsAcknowledged):
                self.settings_seen["client"] = True
            if not hasattr(event, "stream_id") or event.stream_id not in self.calls:
                continue
            call = self.calls[event.stream_id]
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                assert event.headers is not None
                call.headers_in.append([(bytes(n), bytes(v)) for n, v in event.headers])
            elif isinstance(event, h2.events.DataReceived):
                call.data_in += event.data
                self.owe("client", call.stream, event.flow_controlled_length)
            elif isinstance(event, h2.events.StreamEnded):
                call.response_ended = True
            elif isinstance(event, h2.events.StreamReset) and event.remote_reset:
                call.response_reset = call.client_done = True
