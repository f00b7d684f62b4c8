"""A model of one connection's windows and calls, driven by hypothesis in any order of steps.

The model is the two peers: what each may send, and what each has to have got. Steps are
whole frames; how they are cut is the matter of the conversations.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shimcore.relay import frames
from shimcore.relay.events import CallCancelled, CallEnded, CallReady
from shimcore.relay.streams import GRANT_BELOW_BYTES
from tests.support.wire import (
    OTHER,
    PULL,
    RESPONSE,
    TRAILERS,
    WINDOW,
    Frame,
    Wire,
    message,
    setting,
)


@dataclass
class Peer:
    """A stream as one end sees it."""

    window: int
    replies: int  # what upstream may send, or the client takes
    sent: bytes = b""
    got: bytes = b""
    unread: int = 0
    over: bool = False


class RelayMachine(RuleBasedStateMachine):
    """Client, relay and runtime; each rule is something that one of them does."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.initial = frames.DEFAULT_WINDOW
        self.seen = frames.DEFAULT_WINDOW  # the client's view of the connection window
        self.room = frames.DEFAULT_WINDOW  # upstream's own view of it
        self.unread = 0
        self.client_initial = frames.DEFAULT_WINDOW
        self.growth = 0  # of the client's initial window, until upstream's ACK is here
        self.reply_seen = frames.DEFAULT_WINDOW  # upstream's view of the replies' window
        self.reply_room = frames.DEFAULT_WINDOW  # the client's own
        self.reply_unread = 0
        self.client: dict[int, Peer] = {}
        self.server: dict[int, Peer] = {}
        self.opened: dict[int, bytes] = {}
        self.deciding: set[int] = set()
        self.awaiting: set[int] = set()
        self.expected: dict[int, bytes] = {}
        self.refused: set[int] = set()
        self.answers: dict[int, bytes] = {}  # what the client has to get, from anybody
        self.replied: set[int] = set()  # streams that have ended for the client
        self.next = 1

    # -- what the peers do -------------------------------------------------------------

    @rule(opened=st.booleans(), size=st.sampled_from([0, 3, 50, 9000, 40_000]))
    def call(self, opened: bool, size: int) -> None:
        """The client opens a call; its request has one message of `size` bytes."""
        stream, self.next = self.next, self.next + 2
        self.wire.open(stream, PULL if opened else OTHER)
        self.client[stream] = Peer(self.initial, self.client_initial)
        self.server[stream] = Peer(self.initial, self.client_initial)
        self.answers[stream] = b""
        self.opened[stream] = message(bytes([stream % 251]) * size)
        self.expected[stream] = self.opened[stream]
        self.take()

    def unfinished(self) -> list[int]:
        """Streams on which the client has something to say."""
        return [s for s, peer in self.client.items() if not peer.over and self.opened[s]]

    @precondition(lambda self: self.unfinished())
    @rule(data=st.data(), size=st.sampled_from([1, 4, 500, 16_384]))
    def send(self, data: st.DataObject, size: int) -> None:
        """The client sends a part of a request, within its windows."""
        stream = data.draw(st.sampled_from(self.unfinished()))
        peer = self.client[stream]
        left = self.opened[stream]
        part = left[: max(0, min(size, len(left), peer.window, self.seen))]
        if not part:
            return
        end = len(part) == len(left)
        self.opened[stream] = left[len(part) :]
        peer.sent += part
        peer.window -= len(part)
        self.seen -= len(part)
        peer.over = end
        self.wire.data(stream, part, end=end)
        self.take()

    @precondition(lambda self: self.deciding)
    @rule(data=st.data(), longer=st.sampled_from([None, -(10**9), -5, 1, 3000, 80_000]))
    def forward(self, data: st.DataObject, longer: int | None) -> None:
        """The image side lets a call go on, with a message of another length."""
        stream = data.draw(st.sampled_from(sorted(self.deciding)))
        content = None
        if longer is not None:
            content = b"n" * max(0, len(self.expected[stream]) - 5 + longer)
            self.expected[stream] = message(content)
        self.deciding.remove(stream)
        self.awaiting.add(stream)
        assert self.wire.core.forward(stream, content)
        self.take()

    @precondition(lambda self: self.deciding)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        """The image side answers a call itself."""
        stream = data.draw(st.sampled_from(sorted(self.deciding)))
        self.deciding.remove(stream)
        self.refused.add(stream)
        assert self.wire.core.refuse(stream, 5, "no")
        self.take()
        assert self.server[stream].over
        assert not self.server[stream].got

    @precondition(lambda self: self.deciding)
    @rule(data=st.data(), size=st.sampled_from([0, 40, 5000, 70_000]))
    def answer_here(self, data: st.DataObject, size: int) -> None:
        """The image side has the runtime's answer already."""
        stream = data.draw(st.sampled_from(sorted(self.deciding)))
        self.deciding.remove(stream)
        if self.answers[stream]:
            self.refused.add(stream)  # upstream has begun one of its own
        else:
            self.answers[stream] = message(b"a" * size)
        assert self.wire.core.answer(stream, b"a" * size)
        self.take()
        assert self.server[stream].over
        assert not self.server[stream].got

    @precondition(lambda self: any(not peer.over for peer in self.server.values()))
    @rule(data=st.data(), size=st.sampled_from([0, 1, 300, 16_384]), padding=st.booleans())
    def reply(self, data: st.DataObject, size: int, padding: bool) -> None:
        """The runtime sends a part of its answer, within its windows as it sees them."""
        stream = data.draw(st.sampled_from([s for s, p in self.server.items() if not p.over]))
        peer = self.server[stream]
        room = min(peer.replies, self.reply_seen)
        if room < size + 3:
            padding = False
        size = max(0, min(size, room))
        payload = bytes([2]) + b"r" * size + bytes(2) if padding else b"r" * size
        self.answers[stream] += b"r" * size
        peer.replies -= len(payload)
        self.reply_seen -= len(payload)
        flags = frames.PADDED if padding else 0
        self.wire.upstream(frames.frame(frames.DATA, flags, stream, payload))
        self.take()

    @precondition(lambda self: self.reply_unread or any(p.unread for p in self.client.values()))
    @rule(half=st.booleans())
    def take_replies(self, half: bool) -> None:
        """The client has read what it got, or half of it, and gives room for more."""
        for stream, peer in self.client.items():
            if peer.unread and stream not in self.replied:
                peer.replies += peer.unread
                self.wire.client(frames.window_update(stream, peer.unread))
            peer.unread = 0
        size = (self.reply_unread + 1) // 2 if half else self.reply_unread
        if size:
            self.reply_unread -= size
            self.reply_room += size
            self.wire.client(frames.window_update(0, size))
        self.take()

    @rule(size=st.sampled_from([10, 1000, 65_535, 100_000]))
    def resize_replies(self, size: int) -> None:
        """The client changes its initial window, and the runtime acknowledges that."""
        self.wire.client(frames.frame(frames.SETTINGS, 0, 0, setting(WINDOW, size)))
        for peer in self.server.values():
            peer.replies += size - self.client_initial
        self.growth = size - self.client_initial
        self.client_initial = size
        self.take()
        self.wire.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.take()

    @precondition(lambda self: any(not peer.over for peer in self.server.values()))
    @rule(data=st.data(), reset=st.booleans())
    def answer(self, data: st.DataObject, reset: bool) -> None:
        """The runtime ends a call, whatever it has got of it."""
        stream = data.draw(st.sampled_from([s for s, p in self.server.items() if not p.over]))
        self.server[stream].over = True
        if reset:
            self.wire.upstream(frames.rst_stream(stream, 8))
        else:
            self.wire.headers(stream, [*RESPONSE, *TRAILERS], end=True)
        self.client[stream].over = True
        self.take()
        assert stream not in self.awaiting | self.deciding

    @precondition(lambda self: self.unfinished())
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The client resets a call."""
        stream = data.draw(st.sampled_from(self.unfinished()))
        self.client[stream].over = True
        self.replied.add(stream)
        self.wire.client(frames.rst_stream(stream, 8))
        self.take()
        assert stream not in self.awaiting | self.deciding

    @precondition(lambda self: self.unread)
    @rule(half=st.booleans())
    def credit(self, half: bool) -> None:
        """The runtime has read what it got, or half of it, and gives room for more."""
        for stream, peer in self.server.items():
            if peer.unread and not peer.over:
                peer.window += peer.unread
                self.wire.upstream(frames.window_update(stream, peer.unread))
            peer.unread = 0
        size = (self.unread + 1) // 2 if half else self.unread
        self.unread -= size
        self.room += size
        self.wire.upstream(frames.window_update(0, size))
        self.take()

    @rule(size=st.sampled_from([10, 1000, 65_535, 100_000]))
    def resize(self, size: int) -> None:
        """The runtime changes its initial window, and the client acknowledges that."""
        self.wire.announce(WINDOW, size)
        for peer in (*self.client.values(), *self.server.values()):
            peer.window += size - self.initial
        self.initial = size
        self.take()
        self.wire.acknowledge()
        self.take()

    # -- what comes out ----------------------------------------------------------------

    def take(self) -> None:
        """Give both peers what the relay has for them."""
        for frame in self.wire.to_upstream():
            self.at_server(frame)
        for frame in self.wire.to_client():
            self.at_client(frame)
        for event in self.wire.events():
            if isinstance(event, CallReady):
                self.deciding.add(event.stream)
                assert event.message == self.client[event.stream].sent[5:]
            elif isinstance(event, CallCancelled):
                self.deciding.remove(event.stream)
            elif isinstance(event, CallEnded):
                self.awaiting.remove(event.stream)

    def at_client(self, frame: Frame) -> None:
        """What the client makes of a frame."""
        if frame.kind == frames.WINDOW_UPDATE:
            size = int.from_bytes(frame.payload, "big")
            if frame.stream:
                self.client[frame.stream].window += size
            else:
                self.seen += size
        elif frame.kind == frames.SETTINGS and frame.flags & frames.ACK:
            for peer in self.client.values():
                peer.replies += self.growth
        elif frame.flags & frames.END_STREAM or frame.kind == frames.RST_STREAM:
            if frame.stream in self.refused:
                self.client[frame.stream].over = True
            self.replied.add(frame.stream)
        if frame.kind == frames.DATA:
            self.reply_at_client(frame)

    def reply_at_client(self, frame: Frame) -> None:
        """A part of an answer, of the runtime's or the shim's."""
        size = len(frame.payload)
        peer = self.client[frame.stream]
        self.reply_room -= size
        self.reply_unread += size
        peer.replies -= size
        peer.unread += size
        start, end = frames.unpadded(frame.payload, 0, size, frame.flags)
        peer.got += frame.payload[start:end]
        assert self.reply_room >= 0, "over the client's window"
        assert peer.replies >= 0 or not size, "over the client's window of the stream"
        assert self.answers[frame.stream].startswith(peer.got)

    def at_server(self, frame: Frame) -> None:
        """What the runtime makes of a frame."""
        if frame.kind == frames.RST_STREAM:
            self.server[frame.stream].over = True
        if frame.kind == frames.WINDOW_UPDATE:
            increment = int.from_bytes(frame.payload, "big")
            if frame.stream:
                self.server[frame.stream].replies += increment
            else:
                self.reply_seen += increment
        if frame.kind != frames.DATA:
            return
        size = len(frame.payload)
        peer = self.server[frame.stream]
        self.room -= size
        self.unread += size
        peer.window -= size
        peer.unread += size
        peer.got += frame.payload
        assert self.room >= 0, "over the connection's window"
        assert peer.window >= 0 or peer.over, "over the stream's window"
        assert self.expected[frame.stream].startswith(peer.got)

    # -- what always holds -------------------------------------------------------------

    @invariant()
    def windows_are_what_the_peers_see(self) -> None:
        """The core's ledger is the two peers' own count."""
        seen, left, held = self.wire.core.requests.windows
        assert (seen, left) == (self.seen, self.room)
        assert seen == left - held + self.wire.core.requests.debt
        assert seen >= 0
        seen, left, waiting = self.wire.core.replies.windows
        assert (seen, left) == (self.reply_seen, self.reply_room)
        assert seen == left - waiting + self.wire.core.replies.debt
        assert min(seen, waiting) >= 0

    @invariant()
    def nobody_stalls(self) -> None:
        """Held bytes never take the client's room, unless upstream itself gives none."""
        seen, left, _ = self.wire.core.requests.windows
        assert seen >= min(left, GRANT_BELOW_BYTES)
        for stream in self.wire.core.gathering:
            assert self.client[stream].window > 0 or self.server[stream].window <= 0

    @invariant()
    def held_bytes_have_an_owner(self) -> None:
        """When no call is open, nothing is held."""
        if all(peer.over for peer in self.server.values()):
            assert self.wire.core.requests.held == 0
            assert set(self.wire.core.live) <= set(self.client) - self.replied

    def read_replies(self) -> None:
        """The client reads until nothing comes any more."""
        while self.reply_unread or any(peer.unread for peer in self.client.values()):
            self.take_replies(half=False)

    def teardown(self) -> None:
        """At the end, after everything is answered and read, both windows are the same."""
        for stream, peer in self.server.items():
            if not peer.over:
                peer.over = True
                self.client[stream].over = True
                self.wire.headers(stream, [*RESPONSE, *TRAILERS], end=True)
        self.take()
        while self.unread:
            self.credit(half=False)
        self.read_replies()
        self.resize_replies(100_000)
        self.read_replies()
        assert self.wire.core.requests.windows == (frames.DEFAULT_WINDOW, frames.DEFAULT_WINDOW, 0)
        assert self.wire.core.requests.debt == 0
        assert self.wire.core.replies.windows == (frames.DEFAULT_WINDOW, frames.DEFAULT_WINDOW, 0)
        assert self.wire.core.replies.debt == 0
        assert not self.wire.core.live
        assert not self.deciding
        assert not self.awaiting


RelayMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestRelayMachine = RelayMachine.TestCase
