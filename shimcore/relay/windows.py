"""The flow-control ledger: keeps windows true when messages change length (RFC 9113 §5.2).

One ledger stands for one scope, the connection or a stream, of the DATA that goes one way:
requests from the client to upstream, or answers from upstream to the client. It knows what
the reader would still take, what the relay holds, and how much more the writer was told
than that. From these follows what the writer sees:

    seen = room - held + debt

A debt is paid by withholding the reader's WINDOW_UPDATEs; a negative one is paid at once
with a WINDOW_UPDATE of the relay's own.
"""

from __future__ import annotations


class Ledger:
    """Flow control of one scope; all numbers are bytes of DATA payload, padding included."""

    __slots__ = ("debt", "held", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.held = 0
        self.debt = 0

    @property
    def seen(self) -> int:
        """What the writer may still send, as it sees it."""
        return self.room - self.held + self.debt

    @property
    def windows(self) -> tuple[int, int, int]:
        """The writer's view, the reader's window, bytes held."""
        return self.seen, self.room, self.held

    def receive(self, size: int) -> None:
        """The writer sent `size` bytes and the relay keeps them."""
        self.held += size

    def send(self, size: int) -> None:
        """`size` of the held bytes went to the reader."""
        self.held -= size
        self.room -= size

    def replace(self, old: int, new: int) -> None:
        """`old` held bytes became `new` bytes to be sent; 0 when they are dropped.

        Bytes that the relay itself has to say are `new` ones in place of none.
        """
        self.held += new - old
        self.debt += new - old

    def grant(self, size: int) -> None:
        """The writer is given credit for bytes that the reader has not seen."""
        self.debt += size

    def update(self, increment: int) -> int:
        """The reader gave `increment`; returns how much of it goes on to the writer."""
        self.room += increment
        if self.debt <= 0:
            return increment
        withheld = min(increment, self.debt)
        self.debt -= withheld
        return increment - withheld

    def settle(self) -> int:
        """Credit that the writer is owed now; the caller sends it."""
        owed = -self.debt
        if owed <= 0:
            return 0
        self.debt = 0
        return owed
