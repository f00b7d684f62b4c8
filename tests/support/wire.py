"""A relay connection between hand-written frames: what one test sends, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import hpack

from shimcore.heldcall import Decision
from shimcore.relay import frames
from shimcore.relay.budget import Budget
from shimcore.relay.clients import Client
from shimcore.relay.connection import Connection
from shimcore.relay.events import CallReady, Event
from shimcore.relay.route import Route

PULL = b"/images/Pull"
OTHER = b"/runtime/Status"
Headers = list[tuple[bytes, bytes]]
RESPONSE: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Headers = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
WINDOW = frames.SETTINGS_INITIAL_WINDOW_SIZE
DEFAULT = frames.DEFAULT_WINDOW
CANCEL = frames.CANCEL.to_bytes(4, "big")  # the payload of such an RST_STREAM


class Frame(NamedTuple):
    """One frame as it went out."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def parse(data: bytes) -> list[Frame]:
    """The frames of a byte string; fails when it does not end with a frame."""
    found = []
    position = 0
    if data.startswith(frames.PREFACE):
        position = len(frames.PREFACE)
    while position < len(data):
        high, low, kind, flags, stream = frames.FRAME_HEADER.unpack_from(data, position)
        end = position + 9 + (high << 8 | low)
        assert end <= len(data), "the last frame is cut"
        found.append(Frame(kind, flags, stream, data[position + 9 : end]))
        position = end
    return found


def setting(key: int, value: int) -> bytes:
    """One entry of a SETTINGS payload."""
    return key.to_bytes(2, "big") + value.to_bytes(4, "big")


def request(path: bytes = PULL, *extra: tuple[bytes, bytes]) -> Headers:
    """Header fields of a gRPC request."""
    return [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), *extra]


def message(content: bytes) -> bytes:
    """A gRPC message with its prefix."""
    return b"\0" + len(content).to_bytes(4, "big") + content


class Wire:
    """A connection whose two ends are the test.

    `shaken`: both prefaces have gone through, and what they put out has been taken.
    """

    def __init__(
        self,
        *,
        shaken: bool = True,
        budget: Budget | None = None,
        route: Route = Route.OPEN,
        account: Client | None = None,
        decide: Callable[[CallReady], Decision | None] | None = None,
    ) -> None:
        self.strict = route is Route.STRICT
        self.account = account or Client()
        self.core = Connection(
            lambda path: route if path == PULL else Route.PASS,
            budget,
            lambda: self.strict,
            account=self.account,
            decide=decide,
        )
        self.request_encoder = hpack.Encoder()
        self.response_encoder = hpack.Encoder()
        self.client_decoder = hpack.Decoder()
        if shaken:
            self.client(frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0))
            self.upstream(frames.frame(frames.SETTINGS, 0, 0))
            self.upstream(frames.frame(frames.SETTINGS, frames.ACK, 0))
            self.client(frames.frame(frames.SETTINGS, frames.ACK, 0))
            self.to_client()
            self.to_upstream()

    # -- bytes in ----------------------------------------------------------------------

    def client(self, data: bytes) -> None:
        """The client sends bytes."""
        self.core.from_client(data)
        while self.core.inflating:
            self.core.inflate()

    def upstream(self, data: bytes) -> None:
        """The runtime sends bytes."""
        self.core.from_upstream(data)

    def open(self, stream: int, path: bytes = PULL, *extra: tuple[bytes, bytes]) -> None:
        """The client opens a call."""
        block = self.request_encoder.encode(request(path, *extra))
        self.client(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block))

    def data(self, stream: int, payload: bytes, *, end: bool = True) -> None:
        """The client sends DATA."""
        self.client(frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream, payload))

    def call(self, stream: int, content: bytes = b"image") -> None:
        """The client makes a whole opened call."""
        self.open(stream)
        self.data(stream, message(content))

    def headers(self, stream: int, fields: Headers, *, end: bool = False) -> None:
        """The runtime sends a header block."""
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        block = self.response_encoder.encode(fields)
        self.upstream(frames.frame(frames.HEADERS, flags, stream, block))

    def answer(self, stream: int, content: bytes = b"", trailers: Headers = TRAILERS) -> None:
        """The runtime answers a call in full."""
        self.headers(stream, RESPONSE)
        self.upstream(frames.frame(frames.DATA, 0, stream, message(content)))
        self.headers(stream, trailers, end=True)

    def announce(self, key: int, value: int) -> None:
        """The runtime announces a setting; the client has not acknowledged it yet."""
        self.upstream(frames.frame(frames.SETTINGS, 0, 0, setting(key, value)))

    def acknowledge(self) -> None:
        """The client acknowledges the runtime's settings."""
        self.client(frames.frame(frames.SETTINGS, frames.ACK, 0))

    # -- bytes out ---------------------------------------------------------------------

    def to_client(self) -> list[Frame]:
        """Frames that went to the client since the last time."""
        return parse(b"".join(self.core.take_to_client()))

    def to_upstream(self) -> list[Frame]:
        """Frames that went to the runtime since the last time."""
        return parse(b"".join(self.core.take_to_upstream()))

    def events(self) -> list[Event]:
        """Events since the last time."""
        return self.core.take_events()

    def decoded(self, block: bytes) -> Headers:
        """A response block as the client's own decoder reads it."""
        return [(bytes(n), bytes(v)) for n, v in self.client_decoder.decode(block, raw=True)]


def body(sent: Iterable[Frame], stream: int) -> bytes:
    """The DATA of one stream among frames, without padding."""
    content = b""
    for frame in sent:
        if frame.kind == frames.DATA and frame.stream == stream:
            start, end = frames.unpadded(frame.payload, 0, len(frame.payload), frame.flags)
            content += frame.payload[start:end]
    return content


def credit(sent: Iterable[Frame], stream: int) -> int:
    """The sum of the WINDOW_UPDATEs of one scope among frames."""
    return sum(
        int.from_bytes(frame.payload, "big")
        for frame in sent
        if frame.kind == frames.WINDOW_UPDATE and frame.stream == stream
    )
