"""The send queue: streams wait for their windows, header blocks for each other."""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.sendqueue import SendQueue
from shimcore.relay.windows import Ledger
from tests.support.wire import Frame, body, parse


class Sender:
    """A queue, and what has left it."""

    def __init__(self, window: int) -> None:
        self.ledger = Ledger(window)
        self.out: list[bytes] = []
        self.queue = SendQueue(self.ledger, self.out.append)

    def sent(self) -> list[Frame]:
        """The frames that have left so far."""
        return parse(b"".join(self.out))

    def data(
        self, stream: int, payload: bytes, *, end: bool = True, own: Ledger | None = None
    ) -> None:
        """Queue DATA as the connection does: held by the ledgers first."""
        self.ledger.receive(len(payload))
        if own is not None:
            own.receive(len(payload))
        self.queue.add_data(stream, payload, end, own)


BLOCK = frames.frame(frames.HEADERS, frames.END_HEADERS, 9, b"block")


def test_data_that_fits_leaves_at_once() -> None:
    """In frames of at most 16,384 bytes, the last one with END_STREAM."""
    sender = Sender(50_000)
    sender.data(1, b"x" * 40_000)
    sent = sender.sent()
    assert [len(frame.payload) for frame in sent] == [16_384, 16_384, 7232]
    assert [frame.flags for frame in sent] == [0, 0, frames.END_STREAM]
    assert not sender.queue
    assert (sender.ledger.room, sender.ledger.held) == (10_000, 0)


def test_the_surplus_waits_for_the_connection_window() -> None:
    """What does not fit goes when upstream gives credit."""
    sender = Sender(10)
    sender.data(1, b"x" * 25)
    assert body(sender.sent(), 1) == b"x" * 10
    sender.ledger.update(10)
    sender.queue.flush()
    sender.ledger.update(10)
    sender.queue.flush()
    assert body(sender.sent(), 1) == b"x" * 25
    assert [frame.flags for frame in sender.sent()] == [0, 0, frames.END_STREAM]


def test_the_surplus_waits_for_the_streams_window() -> None:
    """One stream without room does not stop another."""
    sender = Sender(1000)
    own = Ledger(3)
    sender.data(1, b"aaaaa", own=own)
    sender.data(3, b"bbbbb", own=Ledger(100))
    assert body(sender.sent(), 1) == b"aaa"
    assert body(sender.sent(), 3) == b"bbbbb"
    own.update(-10)
    sender.queue.flush()
    own.update(12)
    sender.queue.flush()
    assert body(sender.sent(), 1) == b"aaaaa"


def test_an_empty_frame_needs_no_window() -> None:
    """END_STREAM alone goes through a window of zero or below."""
    sender = Sender(0)
    sender.data(1, b"", own=Ledger(-5))
    assert sender.sent() == [Frame(frames.DATA, frames.END_STREAM, 1, b"")]


def test_header_blocks_keep_their_order() -> None:
    """A block waits for one that came before it, on another stream too, and so does its DATA."""
    sender = Sender(3)
    sender.data(1, b"aaaaa", end=False)
    trailers = frames.frame(frames.HEADERS, 0x5, 1, b"trailers")
    sender.queue.add_block(1, trailers)
    sender.queue.add_block(9, BLOCK)
    sender.data(9, b"b")
    assert sender.queue.blocks_wait
    assert sender.queue.waits(9)
    assert len(sender.sent()) == 1
    sender.ledger.update(10)
    sender.queue.flush()
    kinds = [(frame.kind, frame.stream) for frame in sender.sent()[1:]]
    assert kinds == [
        (frames.DATA, 1),
        (frames.HEADERS, 1),
        (frames.HEADERS, 9),
        (frames.DATA, 9),
    ]
    assert not sender.queue


def test_dropped_data_lets_the_blocks_behind_it_go() -> None:
    """A call that is given up keeps its place in the header table's history."""
    sender = Sender(3)
    sender.data(1, b"aaaaa", end=False)
    sender.queue.add_block(1, BLOCK)
    sender.queue.add_block(3, BLOCK)
    assert sender.queue.drop_data(1) == 2
    assert [frame.kind for frame in sender.sent()[1:]] == [frames.HEADERS, frames.HEADERS]
    assert not sender.queue
    assert sender.queue.drop_data(1) == 0


def test_other_frames_stay_behind_their_streams_block() -> None:
    """A RST_STREAM must not come before the HEADERS that open its stream."""
    sender = Sender(0)
    sender.data(1, b"a", end=False)
    sender.queue.add_block(1, BLOCK)
    sender.queue.add_block(9, BLOCK)
    sender.queue.add_frame(9, frames.rst_stream(9, 8))
    assert not sender.out
    sender.ledger.update(1)
    sender.queue.flush()
    assert [frame.kind for frame in sender.sent()] == [
        frames.DATA,
        frames.HEADERS,
        frames.HEADERS,
        frames.RST_STREAM,
    ]


def test_an_ack_stands_between_the_data_before_and_after_it() -> None:
    """DATA without a ledger is within the window that held when the client sent it."""
    sender = Sender(1)
    applied: list[int] = []
    sender.data(1, b"ab", end=False)
    sender.queue.add_ack(frames.frame(frames.SETTINGS, frames.ACK, 0), lambda: applied.append(1))
    sender.data(3, b"c")
    assert sender.queue.ack_waits
    sender.ledger.update(100)
    sender.queue.flush()
    assert [(frame.kind, frame.stream) for frame in sender.sent()] == [
        (frames.DATA, 1),
        (frames.DATA, 1),
        (frames.SETTINGS, 0),
        (frames.DATA, 3),
    ]
    assert applied == [1]
    assert not sender.queue


def test_data_does_not_overtake_an_ack_that_waits_for_a_block() -> None:
    """The client may have sent it in a window that is larger from that ACK on."""
    sender = Sender(100)
    own = Ledger(1)
    sender.data(1, b"ab", end=False, own=own)
    sender.queue.add_block(1, BLOCK)
    sender.queue.add_ack(frames.frame(frames.SETTINGS, frames.ACK, 0), lambda: None)
    sender.data(3, b"c")
    assert not body(sender.sent(), 3)
    own.update(1)
    sender.queue.flush()
    assert [frame.kind for frame in sender.sent()[1:]] == [
        frames.DATA,
        frames.HEADERS,
        frames.SETTINGS,
        frames.DATA,
    ]


def test_data_with_a_ledger_does_not_wait_for_an_ack() -> None:
    """An opened stream's window is known, whatever holds."""
    sender = Sender(1)
    sender.data(1, b"ab", end=False)
    sender.queue.add_ack(frames.frame(frames.SETTINGS, frames.ACK, 0), lambda: None)
    sender.ledger.update(1)
    sender.data(5, b"d", own=Ledger(10))
    assert body(sender.sent(), 5) == b"d"
