"""What the connection core tells its shell."""

from __future__ import annotations

from dataclasses import dataclass

# Fields of a request that are the caller's own, in order.
Metadata = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class CallReady:
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


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """A held call needs no decision any more: cancelled, answered, released or refused unread."""

    stream: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A forwarded call is over; `status` is its gRPC status, `message` the text of it.

    `empty`: the first message of the answer has no bytes.
    """

    stream: int
    status: int
    empty: bool
    message: str


@dataclass(frozen=True, slots=True)
class StreamBegan:
    """Any call has begun. Told only where every call is watched (`Connection.watched`)."""

    stream: int
    path: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Any call is over, with its gRPC status. Told only where every call is watched."""

    stream: int
    path: bytes
    status: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that an operator should read once."""

    text: str


Event = CallReady | CallCancelled | CallEnded | StreamBegan | StreamEnded | Notice
