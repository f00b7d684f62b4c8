"""What the connection core tells its shell."""

from __future__ import annotations

from typing import NamedTuple

# Fields of a request that are the caller's own, in order.
Metadata = tuple[tuple[bytes, bytes], ...]


class CallReady(NamedTuple):
    """An opened call's request is whole and held until `forward`, `refuse` or `answer`.

    `message` is the content without its gRPC prefix, inflated; `timeout_s` is the
    caller's grpc-timeout, None when it set none. `metadata` is without what is the
    transport's. `long`: its decision may take as long as a pull.
    """

    stream: int
    path: bytes
    message: bytes
    timeout_s: float | None
    metadata: Metadata
    long: bool = False


class CallCancelled(NamedTuple):
    """A held call needs no decision any more: cancelled, answered, released or refused unread."""

    stream: int


class CallEnded(NamedTuple):
    """A forwarded call is over; `status` is its gRPC status, `message` the text of it.

    `empty`: the first message of the answer has no bytes.
    """

    stream: int
    status: int
    empty: bool
    message: str


class StreamBegan(NamedTuple):
    """Any call has begun. Told only where every call is watched (`Connection.watched`)."""

    stream: int
    path: bytes


class StreamEnded(NamedTuple):
    """Any call is over, with its gRPC status. Told only where every call is watched."""

    stream: int
    path: bytes
    status: int


class Notice(NamedTuple):
    """Something that an operator should read once."""

    text: str


Event = CallReady | CallCancelled | CallEnded | StreamBegan | StreamEnded | Notice
