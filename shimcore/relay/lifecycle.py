"""The life of a proxy connection: its states, and what leads from one to another."""

from __future__ import annotations

from enum import Enum, IntEnum, auto


class State(IntEnum):
    """What a proxy connection is at; from CLOSING on nothing is gone through any more."""

    CONNECTING = auto()  # to upstream; what the client sends is kept
    RELAYING = auto()  # both sides send
    UNAVAILABLE = auto()  # upstream cannot be reached: calls are answered in its place
    CLIENT_ENDED = auto()  # the client sends no more; upstream may still answer
    UPSTREAM_ENDED = auto()  # upstream sends no more; what it has sent still reaches the client
    CLOSING = auto()  # what is buffered may go out
    CLOSED = auto()  # both sockets are gone


class Change(Enum):
    """What may happen to one."""

    CONNECTED = auto()
    REFUSED = auto()  # nobody accepts at upstream's socket
    CLIENT_END = auto()  # all that it has sent is gone through
    UPSTREAM_END = auto()  # likewise
    CLOSE = auto()  # a peer broke a limit or is gone, or the time is over
    GONE = auto()  # both sockets


# What is not here changes nothing: an end that is said twice, or while it does not matter. The
# end of a side while upstream is being connected is looked at again once it is.
MOVES = {
    (State.CONNECTING, Change.CONNECTED): State.RELAYING,
    (State.CONNECTING, Change.REFUSED): State.UNAVAILABLE,
    (State.RELAYING, Change.CLIENT_END): State.CLIENT_ENDED,
    (State.RELAYING, Change.UPSTREAM_END): State.UPSTREAM_ENDED,
    (State.CLIENT_ENDED, Change.UPSTREAM_END): State.CLOSING,
    (State.UPSTREAM_ENDED, Change.CLIENT_END): State.CLOSING,
    (State.UNAVAILABLE, Change.CLIENT_END): State.CLOSING,
    **{(state, Change.CLOSE): State.CLOSING for state in State if state < State.CLOSING},
    (State.CLOSING, Change.GONE): State.CLOSED,
}
