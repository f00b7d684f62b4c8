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
from shimcore.relay.pace import Pace, SharedPace

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


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
