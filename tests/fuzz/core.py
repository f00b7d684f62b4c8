"""The connection core under arbitrary bytes of both sides, in any order, with decisions.

What is checked after every step:
- nothing but FrameError is raised;
- with no method opened, both directions are a prefix of what came in, short of at most one
  frame that has to be seen whole;
- else every frame that goes out is one that came in, once, with header blocks in order and
  nothing between their frames (unless a peer breaks them off itself), or one of the few kinds
  that the relay may make itself;
- an answer of the relay's own comes out as it was given, and in one piece;
- what is held is never more than what the client sent, and is nothing after the end;
- the ledgers of both directions add up, and where methods are strict nothing goes on unread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.connection import Connection
from shimcore.relay.events import CallCancelled, CallEnded, CallReady, Notice
from shimcore.relay.limits import REPLY_BYTES, SLICE_FRAMES
from shimcore.relay.messages import write_message
from shimcore.relay.route import Route
from shimcore.relay.scanner import ALL_FRAMES
from tests.fuzz.reader import Reader

OPENED = b"/o"
# Blocks that need no table: an opened call's, another call's, an answer's, its trailers.
OPENED_BLOCK = b"\x83\x86\x04\x02" + OPENED
BLOCKS = (
    OPENED_BLOCK,
    b"\x83\x86\x04\x02/p",
    b"\x83\x86\x44\x02" + OPENED,
    b"\xbe",
    b"\x88\x00\x0cgrpc-message\x01x",
    b"\x00\x0bgrpc-status\x010",
    OPENED_BLOCK + b"\x00\x0dgrpc-encoding\x04gzip\x00\x0cgrpc-timeout\x021S",
    b"\x20\x3f\x00\x88",
)
OWN_TO_CLIENT = {
    frames.WINDOW_UPDATE,
    frames.HEADERS,
    frames.DATA,
    frames.PING,
    frames.GOAWAY,
}
# What a well-formed PING of the client's begins with; it is answered here.
PING = bytes((0, 0, frames.PING_BYTES, frames.PING))
OWN_TO_UPSTREAM = {frames.DATA, frames.RST_STREAM, frames.WINDOW_UPDATE}
LIMIT_STEPS = 400
# As the shell gives them, which goes on after each few; and all that has come.
FRAMES_AT_ONCE = (1, 2, SLICE_FRAMES, ALL_FRAMES)
NONE = -1


class _Direction:
    """One direction: what came in, what went out, and whether the two agree."""

    def __init__(self, own: set[int], *, preface: int, ordered: bool) -> None:
        self.came = bytearray()
        self.went = bytearray()
        self._own = own
        self._preface = preface
        self._ordered = ordered  # frames never overtake each other
        self.answers: dict[int, bytes] = {}  # what is still to come of the relay's own
        self._blocks: list[bytes] = []  # frames of header blocks that have not gone out
        self._read = [preface, preface]  # of came, of went
        self._waiting: list[bytes] = []  # frames that came and have not gone out
        self._counts: Counter[bytes] = Counter()
        self._block = NONE  # the stream whose header block is open on the way out
        self._block_in = NONE  # and on the way in
        self._lawful = True  # no header block has been broken off, or begun in its middle

    def check_same(self) -> None:
        """Nothing is opened: a prefix, short of one frame at most."""
        assert self.came.startswith(self.went), "other bytes than those that came"
        left = bytes(self.came[len(self.went) :])
        if len(left) >= frames.FRAME_HEADER_BYTES:
            assert len(left) < frames.FRAME_HEADER_BYTES + int.from_bytes(left[:3], "big")

    def check_frames(self) -> None:
        """Whole frames that went out either came in or are the relay's own."""
        for frame in self._cut(0, self.came):
            kind, stream = frame[3], int.from_bytes(frame[5:9], "big") & frames.STREAM_MASK
            goes_on = kind == frames.CONTINUATION and stream == self._block_in
            # Broken off, or without its beginning: servers hang up then (RFC 9113 §6.10).
            if (self._block_in != NONE or kind == frames.CONTINUATION) and not goes_on:
                self._lawful = False
            self._block_in = self._block_after(frame, self._block_in)
            self._waiting.append(frame)
            if kind in {frames.HEADERS, frames.CONTINUATION}:
                self._blocks.append(frame)
            self._counts[frame] += 1
        for frame in self._cut(1, self.went):
            self._check(frame)

    def _cut(self, which: int, stream: bytearray) -> list[bytes]:
        found = []
        at = self._read[which]
        while len(stream) - at >= frames.FRAME_HEADER_BYTES:
            end = at + frames.FRAME_HEADER_BYTES + int.from_bytes(stream[at : at + 3], "big")
            if end > len(stream):
                break
            found.append(bytes(stream[at:end]))
            at = end
        self._read[which] = at
        return found

    def _check(self, frame: bytes) -> None:
        kind = frame[3]
        if kind == frames.DATA and self._is_answer(frame):
            return
        if self._counts[frame]:
            self._counts[frame] -= 1
            if self._ordered and self._lawful and not self.answers:
                self._pass_over(frame, self._waiting)
            elif kind in {frames.HEADERS, frames.CONTINUATION} and self._lawful:
                self._pass_over(frame, self._blocks)
        else:
            assert kind in self._own, f"a frame of kind {kind} that nobody sent"
            inside = self._block != NONE and self._lawful
            assert not inside, f"kind {kind} inside the header block of {self._block}"
        self._block = self._block_after(frame, self._block)

    def _block_after(self, frame: bytes, block: int) -> int:
        """The stream whose header block is open after this frame, or NONE."""
        kind, flags = frame[3], frame[4]
        stream = int.from_bytes(frame[5:9], "big") & frames.STREAM_MASK
        # A client's PUSH_PROMISE is an error for upstream to answer, not a block.
        promised = kind == frames.PUSH_PROMISE and self._ordered
        goes_on = kind == frames.CONTINUATION and stream == block
        if kind == frames.HEADERS or promised or goes_on:
            return NONE if flags & frames.END_HEADERS else stream
        return block

    def _is_answer(self, frame: bytes) -> bool:
        """Whether DATA goes on with an answer of the relay's own."""
        stream = int.from_bytes(frame[5:9], "big") & frames.STREAM_MASK
        payload, left = frame[frames.FRAME_HEADER_BYTES :], self.answers.get(stream, b"")
        if not payload or not left.startswith(payload):
            return False
        self.answers[stream] = left[len(payload) :]
        return True

    def _pass_over(self, frame: bytes, waiting: list[bytes]) -> None:
        """What came before it and has not gone out may only be what the relay takes out."""
        while waiting:
            came = waiting.pop(0)
            if came == frame:
                return
            if waiting is self._waiting:
                self._counts[came] -= 1
        raise AssertionError("frames have changed places")


class _Play:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        mode = reader.byte()
        self.opens = mode & 1
        self.preface = mode & 2
        self.at_once = FRAMES_AT_ONCE[mode >> 3 & 3]
        self.leaves = bool(mode & 32)  # what is left of one side's bytes waits for its next ones
        self.more_of_client = self.more_of_upstream = False
        self.budget = Budget(limit=mode * 64)
        self.strict = bool(mode & 4)
        self.core = Connection(self._route, self.budget, lambda: self.strict)
        preface = len(frames.PREFACE) if self.preface else 0
        self.up = _Direction(OWN_TO_UPSTREAM, preface=preface, ordered=False)
        self.down = _Direction(OWN_TO_CLIENT, preface=0, ordered=True)
        self.deciding: list[int] = []
        self.forwarded: set[int] = set()
        self.own_down = False  # a GOAWAY of the relay's own is on its way

    def _route(self, path: bytes) -> Route:
        if not self.opens or path != OPENED:
            return Route.PASS
        return Route.STRICT if self.strict else Route.OPEN

    def run(self) -> None:
        try:
            if self.preface:
                self.client(frames.PREFACE)
                self.upstream(frames.frame(frames.SETTINGS, 0, 0))
            for _ in range(LIMIT_STEPS):
                if not self.reader:
                    break
                self.step()
            self.finish_client()
            self.finish_upstream()
        except FrameError as error:
            self.core.go_away(error)
            self.own_down = True
            self.collect()
        self.core.close()
        self.collect()
        assert not self.budget.used, "the closed connection still counts as holding bytes"
        assert not self.deciding, "a decision that nobody was told to drop"
        assert not self.core.live

    def step(self) -> None:
        what = self.reader.byte()
        side = self.client if what & 1 else self.upstream
        actions: tuple[Callable[[], None], ...] = (
            lambda: side(self.reader.string()),
            lambda: side(self.reader.take(self.reader.short())),
            lambda: side(self.frame()),
            lambda: side(self.frame()),
            lambda: self.slowly(side, self.frame() + self.frame()),
            lambda: side(self.headers()),
            lambda: side(self.message()),
            self.decide,
            self.decide,
            self.rest,
        )
        actions[(what >> 1) % len(actions)]()

    def client(self, data: bytes) -> None:
        self.finish_client()
        self.up.came += data
        self.more_of_client = self.core.from_client(data, self.at_once)
        self.collect()
        if not self.leaves:
            self.finish_client()

    def finish_client(self) -> None:
        """Go through what is left of the client's bytes, as the shell does in its turns."""
        while self.more_of_client or self.core.inflating:
            if self.core.inflating:
                self.core.inflate()
            else:
                self.more_of_client = self.core.more_from_client(self.at_once)
            self.collect()

    def upstream(self, data: bytes) -> None:
        self.finish_upstream()
        self.down.came += data
        self.more_of_upstream = self.core.from_upstream(data, self.at_once)
        self.collect()
        if not self.leaves:
            self.finish_upstream()

    def finish_upstream(self) -> None:
        while self.more_of_upstream:
            self.more_of_upstream = self.core.more_from_upstream(self.at_once)
            self.collect()

    def slowly(self, side: Callable[[bytes], None], data: bytes) -> None:
        size = self.reader.byte() % 16 + 1
        for at in range(0, len(data), size):
            side(data[at : at + size])

    def stream(self) -> int:
        return self.reader.byte() % 8

    def frame(self) -> bytes:
        kind, flags, stream = self.reader.byte() % 12, self.reader.byte(), self.stream()
        return frames.frame(kind, flags, stream, self.reader.string())

    def headers(self) -> bytes:
        flags, stream = self.reader.byte(), self.stream()
        block = BLOCKS[self.reader.byte() % len(BLOCKS)]
        cut = self.reader.byte() % (len(block) + 1)
        if flags & 0x40:
            first = frames.frame(frames.HEADERS, flags & frames.END_STREAM, stream, block[:cut])
            return first + frames.frame(
                frames.CONTINUATION, frames.END_HEADERS, stream, block[cut:]
            )
        flags = flags & frames.END_STREAM | frames.END_HEADERS
        return frames.frame(frames.HEADERS, flags, stream, block)

    def message(self) -> bytes:
        """DATA with a whole message, or an opened window."""
        flags, stream, content = self.reader.byte(), self.stream(), self.reader.string()
        if flags & 0x40:
            increment = (flags & 0x3F) * 997 + 1
            return frames.window_update(stream, increment) + frames.window_update(0, increment)
        prefix = bytes((flags >> 1 & 1,)) + len(content).to_bytes(4, "big")
        return frames.frame(frames.DATA, flags & frames.END_STREAM, stream, prefix + content)

    def decide(self) -> None:
        choice = self.reader.byte()
        stream = self.deciding[choice % len(self.deciding)] if self.deciding else self.stream()
        if choice & 0x80:
            content = self.reader.string() * (choice & 0x1F)
            begun = self.begun(stream)
            done = self.core.answer(stream, content)
            if done and not begun:
                self.down.answers[stream] = write_message(content)
        elif choice & 0x40:
            done = self.core.refuse(stream, choice & 15, self.reader.string().decode("latin-1"))
        else:
            message = None if choice & 0x20 else self.reader.string() * (choice & 0x1F)
            done = self.core.forward(stream, message)
            assert done == (stream in self.deciding)
            if done:
                self.forwarded.add(stream)
        if done and stream in self.deciding:
            self.deciding.remove(stream)
        self.collect()

    def begun(self, stream: int) -> bool:
        """Whether upstream has begun an answer of its own, so that ours becomes a refusal."""
        opened = self.core._state.opened.get(stream)
        return opened is not None and bool(opened.answer)

    def rest(self) -> None:
        """The calls that the shell makes now and then."""
        if self.reader.byte() & 1:
            self.core.regrant()
        elif self.opens:
            self.core.go_away()
        self.collect()

    def collect(self) -> None:
        for chunk in self.core.take_to_upstream():
            self.up.went += chunk
        for chunk in self.core.take_to_client():
            self.down.went += chunk
        for event in self.core.take_events():
            self.on_event(event)
        assert 0 <= self.core.requests.held <= len(self.up.came) + 31 * 255 * LIMIT_STEPS
        assert 0 <= self.core.replies.held <= REPLY_BYTES
        assert self.core.replies.debt >= 0
        assert not (self.strict and self.core._state.lost)
        if not self.preface:
            assert self.up.came.startswith(self.up.went)
        elif self.opens or PING in self.up.came:
            self.up.check_frames()
            self.down.check_frames()
        elif not (self.own_down or self.more_of_client or self.more_of_upstream):
            self.up.check_same()
            self.down.check_same()

    def on_event(self, event: object) -> None:
        if isinstance(event, CallReady):
            assert self.opens
            assert event.path == OPENED
            assert event.stream not in self.deciding
            self.deciding.append(event.stream)
        elif isinstance(event, CallCancelled):
            self.deciding.remove(event.stream)
        elif isinstance(event, CallEnded):
            self.forwarded.remove(event.stream)
        else:
            assert isinstance(event, Notice)


def core(data: bytes) -> None:
    """One connection from its first byte to its last."""
    _Play(Reader(data)).run()
