"""What the connection core tells its shell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallReady:
    """An opened call's request is whole and held until `forward` or `refuse`.

    `message` is the content without its gRPC prefix, inflated; `timeout_s` is the
    caller's grpc-timeout, None when it set none.
    """

    stream: int
    path: bytes
    message: bytes
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """A held call needs no decision any more: cancelled, answered, or released unread."""

    stream: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A forwarded call is over; `status` is its gRPC status.

    `empty`: the first message of the answer has no bytes.
    """

    stream: int
    status: int
    empty: bool


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
