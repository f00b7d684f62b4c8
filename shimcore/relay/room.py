"""Room for requests that are decided on: a share for each connection, the rest in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shimcore.relay.budget import Account, Budget


class Room:
    """So many bytes; what does not fit waits until others are decided on.

    Who waits has a call opened in turn, one in a turn of the event loop. The first takes what
    comes free in common, so that nothing is too large for ever.
    """

    def __init__(self, limit: int, share: int) -> None:
        self.budget = Budget(limit, share)
        self.waiting: dict[Requests, None] = {}  # in order; not to be changed by others
        self._scheduled = False

    def wait(self, requests: Requests) -> None:
        """Have a connection's calls opened as there is room for them."""
        self.waiting[requests] = None

    def leave(self, requests: Requests) -> None:
        """It has nothing that waits any more."""
        self.waiting.pop(requests, None)
        self.given()

    def given(self) -> None:
        """There may be room now."""
        if self.waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._open_next)

    def _open_next(self) -> None:
        self._scheduled = False
        for place, requests in enumerate(self.waiting):
            if requests.fits(alone=place > 0):
                del self.waiting[requests]
                requests.open_next()
                return


class Requests:
    """What one connection has of the room, and its calls that wait for some."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._share = room.budget.share
        self._account = Account(room.budget)
        self._waiting: dict[int, tuple[int, Callable[[], None]]] = {}

    @property
    def busy(self) -> bool:
        """Whether a call waits."""
        return bool(self._waiting)

    def take(self, size: int) -> bool:
        """Take so much for a call, unless it is not there, or others wait for what is in common."""
        account = self._account
        if account.used + size <= self._share:
            account.change(size)
            return True
        return not self._room.waiting and account.take(size)

    def give(self, size: int) -> None:
        """Give so much back."""
        self._account.change(-size)
        if self._room.waiting:
            self._room.given()

    def wait(self, stream: int, size: int, open_call: Callable[[], None]) -> None:
        """Have a call opened once it has got so much."""
        self._waiting[stream] = size, open_call
        self._room.wait(self)

    def forget(self, stream: int) -> None:
        """The call needs no room any more, if it has waited for some."""
        if self._waiting.pop(stream, None) is not None and not self._waiting:
            self._room.leave(self)

    def forget_all(self) -> None:
        """The connection is over."""
        self._waiting.clear()
        self._room.leave(self)

    def fits(self, *, alone: bool) -> bool:
        """Take what the first that waits needs, if it is there. `alone`: in the share alone."""
        size, _ = next(iter(self._waiting.values()))
        if alone and self._account.used + size > self._share:
            return False
        return self._account.take(size)

    def open_next(self) -> None:
        """Open the first that waits, which has its room; the others wait behind everybody."""
        _, open_call = self._waiting.pop(next(iter(self._waiting)))
        if self._waiting:
            self._room.wait(self)
        self._room.given()
        open_call()
