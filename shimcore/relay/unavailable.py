"""What a client hears while the runtime cannot be reached: UNAVAILABLE, call by call.

A server of its own only in name: it acknowledges settings and pings, answers each call with
why the runtime is away, and asks the client to come back on a new connection. A call that
comes when the runtime is back is refused as not processed, which clients mend by sending it
again on that new connection, unseen by their callers (RFC 9113 §8.7).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from shimcore.errors import FrameError
from shimcore.lines import Seldom
from shimcore.relay import frames
from shimcore.relay.limits import HEADER_BLOCK_BYTES
from shimcore.relay.messages import GRPC_UNAVAILABLE
from shimcore.relay.scanner import ALL_FRAMES, Handler, Scanner, Verdict
from shimcore.unixsocket import connected

log = logging.getLogger("shimcore.relay")


class UnavailableServer:
    """Bytes of one client in, bytes for it out; `answered` once a call has been refused.

    `away` says at each call why the runtime cannot be reached; None when it can again. `count` is
    told of every call that is answered UNAVAILABLE.
    """

    def __init__(
        self, away: Callable[[], str | None], count: Callable[[], None] = lambda: None
    ) -> None:
        self.answered = False
        self._away = away
        self._count = count
        self._last_answered = 0
        self._preface_left = len(frames.PREFACE)
        self._out: list[bytes] = [frames.frame(frames.SETTINGS, 0, 0)]
        self._block_ends_stream = False
        kinds = range(frames.CONTINUATION + 1)
        self._scanner = Scanner([self._handler(kind) for kind in kinds])

    def from_client(self, data: bytes, limit: int = ALL_FRAMES) -> bool:
        """Take bytes of the client, of which `limit` frames are gone through at the most.

        True when there are more, for `more_from_client`. Raises FrameError.
        """
        if self._preface_left:
            part = data[: self._preface_left]
            if not frames.PREFACE[-self._preface_left :].startswith(part):
                raise FrameError(frames.PROTOCOL_ERROR, "the client does not speak HTTP/2")
            self._preface_left -= len(part)
            data = data[len(part) :]
        more = self._scanner.feed(data, limit)
        self._scanner.out.clear()
        return more

    def more_from_client(self, limit: int = ALL_FRAMES) -> bool:
        """Go through the next frames; True when there still are more."""
        return self._scanner.go_on(limit)

    def take_to_client(self) -> list[bytes]:
        """What the client is sent."""
        out, self._out = self._out, []
        return out

    def go_away(self, error: FrameError) -> None:
        """Tell the client why its connection is closed."""
        self._out.append(frames.goaway(0, error.h2_code, str(error)))

    def _handler(self, kind: int) -> Handler:
        def handle(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
            if end - start > HEADER_BLOCK_BYTES:
                raise FrameError(frames.ENHANCE_YOUR_CALM, "frame over 1 MiB")
            if end > len(data):
                return Verdict.WHOLE
            self._answer(kind, flags, stream, data[start:end])
            return Verdict.TAKE

        return handle

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING and not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.DATA and payload:
            self._out.append(frames.window_update(0, len(payload)))
        elif kind == frames.HEADERS:
            self._block_ends_stream = bool(flags & frames.END_STREAM)
        if kind in {frames.HEADERS, frames.CONTINUATION} and flags & frames.END_HEADERS:
            self._refuse(stream)

    def _refuse(self, stream: int) -> None:
        text = self._away()
        if text is None:
            self._out.append(frames.goaway(self._last_answered, frames.NO_ERROR))
            self._out.append(frames.rst_stream(stream, frames.REFUSED_STREAM))
            self.answered = True
            return
        self._count()
        self._last_answered = stream
        self._out.append(frames.refusal(stream, GRPC_UNAVAILABLE, text, answered=False))
        if not self._block_ends_stream:
            self._out.append(frames.rst_stream(stream, frames.NO_ERROR))
        if not self.answered:
            self._out.append(frames.goaway(frames.STREAM_MASK, frames.NO_ERROR))
        self.answered = True


class Outage:
    """Says in the log that the runtime is away: at first, then once a minute, and when it is back.

    A runtime that comes and goes within that minute is told of at its end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._refused = Seldom(clock)
        self._told = False

    def refused(self, why: str) -> None:
        """A client's connection has no runtime to go to."""
        if connections := self._refused.happened():
            of = f" on {connections} more connections" if connections > 1 else ""
            log.warning("%s; calls%s are answered UNAVAILABLE", why, of)
            self._told = True

    def over(self, path: str) -> None:
        """The runtime has taken a connection."""
        if self._told:
            self._told = False
            log.info("the container runtime at %s is back", path)


def why_away(path: str) -> str | None:
    """Why nobody accepts at the runtime's socket now; None when somebody does."""
    try:
        connected(path).close()
    except OSError as error:
        return away(path, error)
    return None


def away(path: str, error: OSError) -> str:
    """The sentence for an error of connecting to the runtime's socket."""
    why = error.strerror or str(error)
    if isinstance(error, BlockingIOError):
        why = "it does not accept, and no more connections can wait"
    return (
        f"image-cri-shim: the container runtime at {path} cannot be reached "
        f"({why}); see whether it is running"
    )
