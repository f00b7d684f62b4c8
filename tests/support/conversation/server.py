"""The runtime of a conversation: what it gets, and answers of all shapes."""

from __future__ import annotations

from collections.abc import Iterable

import h2.events
import h2.exceptions

from shimcore.relay.messages import write_message
from tests.support.conversation.state import Call, Headers, Talk


class ServerSide(Talk):
    """What the runtime is told, and what it says."""

    def server_events(self, events: Iterable[object]) -> None:
        for event in events:
            assert not isinstance(event, h2.events.PingReceived), "the client's PING went on"
            if isinstance(event, h2.events.PingAckReceived):
                self.pongs["server"] += 1
            if isinstance(event, h2.events.SettingsAcknowledged):
                self.settings_seen["server"] = True
            if not hasattr(event, "stream_id") or event.stream_id not in self.calls:
                continue
            call = self.calls[event.stream_id]
            if isinstance(event, h2.events.RequestReceived):
                call.arrived = True
                self.plan_reply(call)
            elif isinstance(event, h2.events.DataReceived):
                call.received += event.data
                self.owe("server", call.stream, event.flow_controlled_length)
            elif isinstance(event, h2.events.StreamEnded):
                call.request_ended = True
            elif isinstance(event, h2.events.StreamReset) and event.remote_reset:
                call.request_reset = True
                call.reply_done = True
                call.reply = []

    def plan_reply(self, call: Call) -> None:
        rng = self.random
        call.answers_early = not self.calm and rng.random() < 0.15
        status = rng.choice([0, 0, 0, 5, 13])
        trailers: Headers = [(b"grpc-status", b"%d" % status), *self.metadata()]
        kind = rng.random()
        if not self.calm and kind < 0.1:
            call.reply = [("reset", 8)]
            return
        if kind < 0.25:
            call.reply = [("end", [(b":status", b"200"), *trailers])]
            return
        call.reply = [("headers", [(b":status", b"200"), *self.metadata()])]
        for _ in range(rng.choice([1, 1, 3])):
            content = rng.randbytes(rng.choice([0, 10, 200, 3000, 40_000 if self.large else 10]))
            call.reply.append(("data", write_message(content)))
        call.reply.append(("end", trailers))

    def server_send(self) -> bool:
        able = [
            call
            for call in self.calls.values()
            if call.reply and not call.reply_done and (call.request_ended or call.answers_early)
        ]
        if not able:
            return False
        call = self.random.choice(able)
        kind, value = call.reply[0]
        if kind == "data":
            assert isinstance(value, bytes)
            return self.server_send_data(call, value)
        call.reply.pop(0)
        if kind == "reset":
            self.server.reset_stream(call.stream, 8)
            call.reply_done = call.reply_reset = True
        else:
            assert isinstance(value, list)
            self.server.send_headers(call.stream, value, end_stream=kind == "end")
            call.headers_out.append(value)
            call.reply_done = kind == "end"
        self.collect()
        return True

    def server_send_data(self, call: Call, value: bytes) -> bool:
        room = min(
            self.server.local_flow_control_window(call.stream), self.server.max_outbound_frame_size
        )
        if room <= 0:
            return False
        size = self.random.randint(1, min(len(value), room))
        pad: int | None = None
        if self.random.random() < 0.3 and room - size > 1:
            pad = self.random.randint(0, min(room - size - 1, 255))
        self.server.send_data(call.stream, value[:size], pad_length=pad)
        call.data_out += value[:size]
        call.reply[0] = ("data", value[size:])
        if size == len(value):
            call.reply.pop(0)
        self.collect()
        return True
