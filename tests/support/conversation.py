"""Conversations between two real `h2` endpoints through the connection core.

`Conversation(seed).run()` plays one and checks it: what either side got, the events, and
all windows. Everything random comes from the seed.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import h2.events
import h2.exceptions
from h2.settings import SettingCodes

from shimcore.heldcall import Forward
from shimcore.relay.connection import Connection
from shimcore.relay.events import CallCancelled, CallEnded, CallReady, Notice
from shimcore.relay.limits import INFLATED_BYTES, SLICE_FRAMES
from shimcore.relay.messages import write_message
from shimcore.relay.route import Route
from shimcore.relay.scanner import ALL_FRAMES
from tests.support.conversation_checks import check, check_outcome, check_windows
from tests.support.h2_endpoint import Endpoint, reframe

Headers = list[tuple[bytes, bytes]]
OPENED = b"/images/Pull"
PLAIN = b"/runtime/Status"
STEPS = 300
SETTLING_ROUNDS = 20_000


@dataclass
class Call:
    """One call as the client makes it, and what both ends saw of it."""

    stream: int
    opened: bool
    body: bytes  # what the client sends in DATA
    unary: bool
    message: bytes | None  # the content of its first message; None: unreadable or none
    trailers: bool
    resets_after: int | None  # the client gives up after so many bytes
    first_bytes: int = 0  # length of the first message with its prefix
    sent: int = 0
    client_done: bool = False  # END_STREAM or RST_STREAM has gone out
    client_reset: bool = False
    decision: str = ""  # "forward", "refuse", "answer", "cancelled"
    untold: bool = False  # let go while its message was still being inflated
    expected: bytes | None = None  # the request that upstream has to get; None: `body`
    refusal: tuple[int, bytes] | None = None
    answer: bytes = b""  # the DATA that the shim answers with
    # upstream's side
    arrived: bool = False
    received: bytearray = field(default_factory=bytearray)
    request_ended: bool = False
    request_reset: bool = False
    reply: list[tuple[str, object]] = field(default_factory=list)  # still to be sent
    answers_early: bool = False
    headers_out: list[Headers] = field(default_factory=list)
    data_out: bytearray = field(default_factory=bytearray)
    reply_done: bool = False
    reply_reset: bool = False
    # the client's side
    headers_in: list[Headers] = field(default_factory=list)
    data_in: bytearray = field(default_factory=bytearray)
    response_ended: bool = False
    response_reset: bool = False


class Conversation:
    """Two endpoints, the core between them, and a scheduler that is a random generator.

    `knows`: the share of calls that are decided on at once; None for any. `swells`: that of
    compressed messages that inflate to more than is inflated at once.
    """

    def __init__(self, seed: int, knows: float | None = None, swells: float = 0.5) -> None:
        self.known = random.Random(~seed)
        self.swells = swells
        self.knows = self.known.choice([0, 0.5, 1]) if knows is None else knows
        self.random = random.Random(seed)
        choose = self.random.choice
        self.chunk = choose([1, 3, 20, 20, 200, 5000, 1 << 20])
        self.large = self.chunk >= 200 and self.random.random() < 0.3
        self.calm = self.random.random() < 0.3  # few odd things, so that much gets through
        self.client = Endpoint(client=True)
        self.server = Endpoint(client=False)
        self.core = Connection(
            lambda path: Route.OPEN if path == OPENED else Route.PASS, decide=self.decide_now
        )
        self.pipes: dict[str, bytearray] = {
            name: bytearray() for name in ("c>r", "r>u", "u>r", "r>c")
        }
        self.calls: dict[int, Call] = {}
        self.deciding: dict[int, CallReady] = {}
        self.ready: set[int] = set()
        self.awaiting: set[int] = set()
        self.credit: dict[str, dict[int, int]] = {"client": {}, "server": {}}
        self.notices: list[str] = []
        self.settings_seen = {"client": False, "server": False}
        self.settings: dict[str, dict[SettingCodes | int, int]] = {
            side: {
                SettingCodes.INITIAL_WINDOW_SIZE: 65_535,
                SettingCodes.HEADER_TABLE_SIZE: 4096,
                SettingCodes.MAX_FRAME_SIZE: 16_384,
            }
            for side in ("client", "server")
        }
        self.pings = {"client": 0, "server": 0}
        self.pongs = {"client": 0, "server": 0}
        self.at_once = choose([1, 2, SLICE_FRAMES, ALL_FRAMES])
        self.calls_left = self.random.randint(1, 25)
        self.max_calls_open = choose([1, 4, 100])

    # -- transport ---------------------------------------------------------------------

    def start(self) -> None:
        for endpoint in (self.client, self.server):
            endpoint.initiate_connection()
        self.collect()

    def collect(self) -> None:
        """Put what the endpoints have to send on the wire."""
        self.pipes["c>r"] += reframe(self.random, self.client.data_to_send(), client=True)
        self.pipes["u>r"] += reframe(self.random, self.server.data_to_send(), client=False)

    def move(self, name: str, size: int | None = None) -> bool:
        """Deliver the next bytes of one pipe."""
        pipe = self.pipes[name]
        if not pipe:
            return False
        size = size or self.random.randint(1, self.chunk)
        data = bytes(pipe[:size])
        del pipe[:size]
        if name == "c>r":
            self.feed_client(data)
        elif name == "u>r":
            self.feed_upstream(data)
        elif name == "r>c":
            self.client_events(self.client.receive_data(data))
        else:
            self.server_events(self.server.receive_data(data))
        self.relay_out()
        self.collect()
        return True

    def feed_client(self, data: bytes) -> None:
        """A few frames at a time, and what has happened is seen in between, as by the shell."""
        more = self.core.from_client(data, self.at_once)
        while more or self.core.inflating:
            self.note_untold()
            self.relay_out()
            if self.core.inflating:
                self.core.inflate()
            else:
                more = self.core.more_from_client(self.at_once)

    def note_untold(self) -> None:
        """A call that has gone on while its message is inflated is forgotten at the next piece."""
        for opened in self.core.inflating:
            if not opened.holding:
                self.calls[opened.id].untold = True

    def feed_upstream(self, data: bytes) -> None:
        """Likewise."""
        more = self.core.from_upstream(data, self.at_once)
        while more:
            self.relay_out()
            more = self.core.more_from_upstream(self.at_once)

    def relay_out(self) -> None:
        for chunk in self.core.take_to_client():
            self.pipes["r>c"] += chunk
        for chunk in self.core.take_to_upstream():
            self.pipes["r>u"] += chunk
        for event in self.core.take_events():
            self.on_core(event)

    # -- the core's events and decisions -----------------------------------------------

    def on_core(self, event: object) -> None:
        if isinstance(event, CallReady):
            assert event.stream not in self.ready, "two CallReady for one call"
            self.ready.add(event.stream)
            self.deciding[event.stream] = event
            call = self.calls[event.stream]
            assert call.opened
            assert event.message == call.message
            assert event.path == OPENED
            assert event.timeout_s == 5.0
        elif isinstance(event, CallCancelled):
            assert event.stream in self.deciding, "cancelled, but nothing to decide"
            del self.deciding[event.stream]
            self.calls[event.stream].decision = "cancelled"
        elif isinstance(event, CallEnded):
            assert event.stream in self.awaiting, "ended, but not awaited"
            self.awaiting.remove(event.stream)
            check_outcome(self.calls[event.stream], event)
        else:
            assert isinstance(event, Notice)
            self.notices.append(event.text)

    def decide_now(self, event: CallReady) -> Forward | None:
        """Some calls go on at once, most of those as they came."""
        self.on_core(event)
        if self.known.random() >= self.knows:
            return None
        del self.deciding[event.stream]
        call = self.calls[event.stream]
        call.decision = "forward"
        self.awaiting.add(event.stream)
        if self.known.random() < 0.7:
            return Forward(None)
        message = self.rewritten(event.message)
        call.expected = write_message(message) + call.body[call.first_bytes :]
        return Forward(message)

    def decide(self) -> bool:
        if not self.deciding:
            return False
        stream = self.random.choice(list(self.deciding))
        event = self.deciding[stream]
        call = self.calls[stream]
        kind = self.random.random()
        if kind < 0.3:
            if self.refuse(call):
                del self.deciding[stream]
        elif kind < 0.6:
            if self.answer(call):
                del self.deciding[stream]
        else:
            del self.deciding[stream]
            message = None if kind < 0.7 else self.rewritten(event.message)
            assert self.core.forward(stream, message)
            assert not self.core.forward(stream, message), "forwarded twice"
            assert not self.core.refuse(stream, 1, "")
            assert not self.core.answer(stream, b"")
            call.decision = "forward"
            self.awaiting.add(stream)
            if message is not None:
                call.expected = write_message(message) + call.body[call.first_bytes :]
        self.relay_out()
        return True

    def rewritten(self, message: bytes) -> bytes:
        size = len(message) if self.large else min(len(message), 1500)
        length = self.random.choice([0, 1, size // 2, size + 1, size + 50])
        if self.random.random() < 0.1:
            length = size + self.random.randint(1000, 70_000 if self.large else 3000)
        return self.random.randbytes(length)

    def refuse(self, call: Call) -> bool:
        code = self.random.randint(1, 16)
        text = self.random.choice(["no", "100 % nö", "x" * 200])
        if not self.core.refuse(call.stream, code, text):
            assert self.core._upstream_to_client.passing_block(call.stream), "refusal refused"
            return False
        call.decision = "refuse"
        wire = {"100 % nö": b"100 %25 n%C3%B6"}.get(text, text.encode())
        call.refusal = (code, wire)
        self.client.forgotten.add(call.stream)
        return True

    def answer(self, call: Call) -> bool:
        content = self.random.randbytes(self.random.choice([0, 1, 80, 80, 700, 3000]))
        if self.large and self.random.random() < 0.2:
            content = self.random.randbytes(self.random.randint(10_000, 150_000))
        begun = self.core._state.opened[call.stream].answer
        if not self.core.answer(call.stream, content):
            assert self.core._upstream_to_client.passing_block(call.stream), "answer refused"
            return False
        call.decision = "answer"
        call.answer = write_message(content)
        if begun:
            call.decision = "refuse"
            call.refusal = (13, b"image-cri-shim: the runtime answered a call that it had not got")
        self.client.forgotten.add(call.stream)
        return True

    def refuse_unfinished(self) -> bool:
        """What the shell does with the oldest unfinished request when memory is short."""
        gathering = self.core.gathering
        if not gathering:
            return False
        refused = self.refuse(self.calls[gathering[0]])
        self.relay_out()
        return refused

    # -- the client --------------------------------------------------------------------

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

    def metadata(self) -> Headers:
        return [
            (
                b"x-%d" % self.random.randint(0, 30),
                self.random.randbytes(self.random.choice([2, 60])).hex().encode(),
            )
            for _ in range(self.random.randint(0, 4))
        ]

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

    # -- the server --------------------------------------------------------------------

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

    # -- windows and settings ----------------------------------------------------------

    def owe(self, side: str, stream: int, size: int) -> None:
        for scope in (0, stream):
            self.credit[side][scope] = self.credit[side].get(scope, 0) + size

    def pay(self, side: str, *, everything: bool = False) -> bool:
        """Give window credit back, for all that was read or a part of it."""
        owed = {scope: size for scope, size in self.credit[side].items() if size}
        if not owed:
            return False
        endpoint = self.client if side == "client" else self.server
        scope = self.random.choice(list(owed))
        size = owed[scope] if everything else self.random.randint(1, owed[scope])
        self.credit[side][scope] -= size
        # A stream may be gone, and its window with it.
        with suppress(h2.exceptions.StreamClosedError, KeyError):
            endpoint.increment_flow_control_window(size, scope or None)
        self.collect()
        return True

    def change_settings(self) -> bool:
        """Announce new settings of one side.

        h2 takes an ACK for one of every setting with a value pending, so each frame names
        all, and the first one goes when the initial frame has been acknowledged.
        """
        side = self.random.choice(["client", "server"])
        if not self.settings_seen[side]:
            return False
        values = self.settings[side]
        odd = {
            SettingCodes.INITIAL_WINDOW_SIZE: [10, 100, 1000, 20_480, 65_535, 200_000],
            SettingCodes.HEADER_TABLE_SIZE: [0, 60, 300, 4096, 10_000],
            SettingCodes.MAX_FRAME_SIZE: [16_384, 20_000, 40_000],
        }
        for key, choices in odd.items():
            if self.random.random() < 0.5:
                values[key] = self.random.choice(choices)
        endpoint = self.client if side == "client" else self.server
        endpoint.update_settings(values)
        self.collect()
        return True

    def ping(self) -> bool:
        side = self.random.choice(["client", "server"])
        endpoint = self.client if side == "client" else self.server
        endpoint.ping(self.random.randbytes(8))
        self.pings[side] += 1
        self.collect()
        return True

    # -- the conversation --------------------------------------------------------------

    def run(self) -> None:
        self.start()
        actions: list[tuple[float, Callable[[], bool]]] = [
            (6, lambda: self.move("c>r")),
            (6, lambda: self.move("r>u")),
            (6, lambda: self.move("u>r")),
            (6, lambda: self.move("r>c")),
            (3, self.new_call),
            (6, self.client_send),
            (4, self.server_send),
            (2, self.decide),
            (2, lambda: self.pay("server")),
            (2, lambda: self.pay("client")),
            (0.05 if self.calm else 0.4, self.change_settings),
            (0.1, self.ping),
            (0.02, self.refuse_unfinished),
            (0.3, self.quiet),
        ]
        steps = self.random.choices([a for _, a in actions], [w for w, _ in actions], k=STEPS)
        for step in steps:
            step()
        self.settle()
        check(self)

    def quiet(self) -> bool:
        """Deliver all that is under way, then compare the windows on both sides."""
        while sum(self.move(name, self.chunk * 50) for name in self.pipes):
            pass
        check_windows(self)
        return True

    def settle(self) -> None:
        """Let everything come to its end, with windows that make it quick."""
        self.quiet()
        for side, endpoint in (("client", self.client), ("server", self.server)):
            values = {**self.settings[side], SettingCodes.INITIAL_WINDOW_SIZE: 65_535}
            endpoint.update_settings(values)
        for _ in range(SETTLING_ROUNDS):
            self.quiet()
            progress = [
                self.new_call(),
                *[self.client_send() for _ in range(4)],
                *[self.server_send() for _ in range(4)],
                self.decide(),
                *[self.pay("server", everything=True) for _ in range(4)],
                *[self.pay("client", everything=True) for _ in range(4)],
            ]
            if not any(progress):
                if self.give_up_rest():
                    continue
                return
        raise AssertionError("the conversation does not come to an end")

    def give_up_rest(self) -> bool:
        """Calls whose other end has nothing to say any more are reset by the client."""
        unfinished = False
        for call in self.calls.values():
            over = call.response_ended or call.response_reset or call.client_reset
            silent = call.request_reset and not call.reply
            if not call.client_done and (call.response_ended or call.client_reset):
                self.client_reset(call)
                unfinished = True
            assert over or silent or call.client_reset, f"a call hangs: {call}"
        return unfinished
