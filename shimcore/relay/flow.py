"""The DATA that goes one way: what its reader takes, what waits for that, what is owed.

A connection has two: requests, written by the client and read by upstream, and replies.
"""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.scanner import Scanner
from shimcore.relay.sendqueue import SendQueue
from shimcore.relay.windows import Ledger


class Flow:
    """The connection's ledger of one way, and the frames that wait for the reader's windows."""

    __slots__ = ("_to_writer", "ledger", "queue")

    def __init__(self, to_reader: Scanner, to_writer: Scanner) -> None:
        self.ledger = Ledger(frames.DEFAULT_WINDOW)
        self.queue = SendQueue(self.ledger, to_reader.inject)
        self._to_writer = to_writer

    def credit(self, stream: int, size: int) -> None:
        """Give the writer room for `size` bytes more."""
        if size:
            self._to_writer.inject(frames.window_update(stream, size))

    def settle(self) -> None:
        """Pay the writer what its connection window is owed."""
        self.credit(0, self.ledger.settle())

    def drop(self, size: int) -> None:
        """Bytes came that go nowhere; its stream's window is of no use any more."""
        self.ledger.receive(size)
        self.ledger.replace(size, 0)
        self.settle()

    def drop_queued(self, stream: int) -> None:
        """Forget the queued DATA of a call that is over."""
        self.ledger.replace(self.queue.drop_data(stream), 0)
        self.settle()
