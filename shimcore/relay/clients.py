"""Who the clients are: processes, each with one account for all of its connections.

Calls that are begun and given up at once cost a client a few bytes each, and the runtime a call
(CVE-2023-44487). So does one that is left open, and closing a connection gives up all that are
open there. A call that is let finish makes up for one that was given up, and so does time; the
account stays when the process connects anew.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import (
    CONNECTS_PER_S,
    CONNECTS_SHARE,
    KEPT_CLIENTS,
    OPEN_CALLS,
    OPEN_SHARE,
    RESETS_PER_S,
    RESETS_SHARE,
    SHARED_CONNECTS,
    SHARED_CONNECTS_PER_S,
    SHARED_OPEN,
    SHARED_RESETS,
    SHARED_RESETS_PER_S,
)

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


class SharedPace:
    """What all clients have in common: so many at once, and so many a second more."""

    __slots__ = ("_at", "_left", "_limit", "_per_s")

    def __init__(self, limit: int, per_s: float) -> None:
        self._limit = limit
        self._per_s = per_s
        self._left = float(limit)
        self._at = 0.0

    def take(self, wanted: float, now: float) -> float:
        """Take so many, or as many as there are."""
        self._grow(now)
        taken = min(wanted, self._left)
        self._left -= taken
        return taken

    def take_one(self, now: float) -> bool:
        """Take one, if there is one."""
        self._grow(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _grow(self, now: float) -> None:
        grown = self._left + (now - self._at) * self._per_s
        self._left, self._at = min(grown, self._limit), now


class Pace:
    """What one client owes: `share` at once, and `per_s` a second more.

    What is done is owed. Time makes up for it, and so may something else that the client does. Up
    to the share nobody waits; what is owed beyond may be taken from what all have in common, and
    who owes more than that waits.
    """

    __slots__ = ("_at", "_before", "_per_s", "owed", "share")

    def __init__(self, share: int, per_s: float) -> None:
        self.share = share
        self.owed = 0.0
        self._per_s = per_s
        self._before = 0.0  # what was owed at the time of the last look, and still is
        self._at = 0.0

    def owe(self, number: int = 1) -> None:
        """The client has done it so many times."""
        self.owed += number

    def make_up(self) -> None:
        """The client has made up for one."""
        if self.owed:
            self.owed = max(self.owed - 1, 0)
            self._before = min(self._before, self.owed)

    def wait_s(self, now: float, shared: SharedPace | None = None) -> float:
        """How long the client has to wait, in seconds from now."""
        self.owed = max(self.owed - min((now - self._at) * self._per_s, self._before), 0)
        over = self.owed - self.share
        if over > 0 and shared is not None:
            taken = shared.take(over, now)
            self.owed -= taken
            over -= taken
        self._before, self._at = self.owed, now
        return max(over, 0) / self._per_s


class InCommon:
    """What all clients have together."""

    __slots__ = ("connects", "open", "resets")

    def __init__(self) -> None:
        self.resets = SharedPace(SHARED_RESETS, SHARED_RESETS_PER_S)
        self.connects = SharedPace(SHARED_CONNECTS, SHARED_CONNECTS_PER_S)
        self.open = 0  # calls under way beyond each client's share


class Client:
    """One process: its calls that are under way, and what it owes."""

    __slots__ = ("_common", "connections", "connects", "open", "resets", "slowed")

    def __init__(self, common: InCommon | None = None) -> None:
        self._common = common or InCommon()
        self.connections = 0
        self.connects = Pace(CONNECTS_SHARE, CONNECTS_PER_S)
        self.resets = Pace(RESETS_SHARE, RESETS_PER_S)
        self.open = 0
        self.slowed = False  # it has been told of in the log

    def began(self) -> None:
        """A call has begun. Raises FrameError when far too many are open."""
        self.open += 1
        if self.open > OPEN_SHARE:
            self._one_more()

    def _one_more(self) -> None:
        """A call beyond the share: from what all have in common, or at the pace of resets."""
        self._common.open += 1
        if self._common.open > SHARED_OPEN:
            self.resets.owe()
        if self.open > OPEN_CALLS:
            reason = f"over {OPEN_CALLS} open calls of one process"
            raise FrameError(frames.ENHANCE_YOUR_CALM, reason)

    def over(self) -> None:
        """A call is over, whoever has ended it."""
        if self.open > OPEN_SHARE:
            self._common.open -= 1
        self.open -= 1

    def given_up(self, number: int = 1) -> None:
        """The client has ended so many calls that were under way."""
        self.resets.owe(number)

    def finished(self) -> None:
        """The runtime has ended a call of its own accord."""
        self.resets.make_up()

    @property
    def owes(self) -> bool:
        """Whether `wait_s` is to be asked."""
        return self.resets.owed > RESETS_SHARE

    def wait_s(self, now: float) -> float:
        """How long the client is not to be read, in seconds from now."""
        return self.resets.wait_s(now, self._common.resets)

    def may_connect(self, now: float) -> bool:
        """Whether one more connection may begin now, which it then does."""
        if self.connects.wait_s(now) or not self._common.connects.take_one(now):
            return False
        self.connects.owe()
        return True


class Clients:
    """The clients by their processes, those included that had a connection lately."""

    def __init__(self) -> None:
        self.common = InCommon()
        self._of: OrderedDict[int, Client] = OrderedDict()
        self._unknown = Client(self.common)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._of)

    def of(self, connection: socket.socket) -> Client:
        """The process that has connected, as the kernel knows it.

        Those of another PID namespace have no number here: they are one.
        """
        size = _CREDENTIALS.size
        ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return self.by_pid(_CREDENTIALS.unpack(ucred)[0])

    def by_pid(self, pid: int) -> Client:
        """The client with that number."""
        if not pid:
            return self._unknown
        client = self._of.get(pid)
        if client is None:
            if len(self._of) >= KEPT_CLIENTS:
                self._forget()
            client = self._of[pid] = Client(self.common)
        else:
            self._of.move_to_end(pid)
        return client

    def _forget(self) -> None:
        """Forget who has been away for the longest time."""
        for pid, client in self._of.items():
            if not client.connections:
                del self._of[pid]
                return
