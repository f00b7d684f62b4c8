"""The flow-control ledger: keeps windows true when messages change length (RFC 9113 §5.2).

One ledger stands for one scope, the connection or an opened stream, of the client's
request bytes. It knows what upstream would still take, what the relay holds, and how
much more the client was told than that. From these follows what the client sees:

    client's window = upstream - held + debt

A debt is paid by withholding upstream's WINDOW_UPDATEs; a negative one is paid at once
with a WINDOW_UPDATE of the relay's own.
"""

from __future__ import annotations


class Ledger:
    """Flow control of one scope; all numbers are bytes of DATA payload, padding included."""

    __slots__ = ("debt", "held", "upstream")

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.held = 0
        self.debt = 0

    @property
    def client(self) -> int:
        """What the client may still send, as it sees it."""
        return self.upstream - self.held + self.debt

    @property
    def neutral(self) -> bool:
        """Whether the client's window is exactly upstream's."""
        return not self.held and not self.debt

    def receive(self, size: int) -> None:
        """The client sent `size` bytes and the relay keeps them."""
        self.held += size

    def send(self, size: int) -> None:
        """`size` of the held bytes went to upstream."""
        self.held -= size
        self.upstream -= size

    def replace(self, old: int, new: int) -> None:
        """`old` held bytes became `new` bytes to be sent; 0 when they are dropped."""
        self.held += new - old
        self.debt += new - old

    def grant(self, size: int) -> None:
        """The client is given credit for bytes that upstream has not seen."""
        self.debt += size

    def update(self, increment: int) -> int:
        """Upstream gave `increment`; returns how much of it goes on to the client."""
        self.upstream += increment
        if self.debt <= 0:
            return increment
        withheld = min(increment, self.debt)
        self.debt -= withheld
        return increment - withheld

    def settle(self) -> int:
        """Credit that the client is owed now; the caller sends it."""
        owed = -self.debt
        if owed <= 0:
            return 0
        self.debt = 0
        return owed
