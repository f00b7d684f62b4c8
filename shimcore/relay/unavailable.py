"""What a client hears while the runtime cannot be reached: UNAVAILABLE, call by call.

A server of its own only in name: it acknowledges settings and pings, answers every call
with the same status, and then asks the client to come back on a new connection.
"""

from __future__ import annotations

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import HEADER_BLOCK_BYTES
from shimcore.relay.scanner import Handler, Scanner, Verdict

UNAVAILABLE = 14


class UnavailableServer:
    """Bytes of one client in, bytes for it out; `answered` once a call has been refused."""

    def __init__(self, text: str) -> None:
        self.answered = False
        self._text = text
        self._preface_left = len(frames.PREFACE)
        self._out: list[bytes] = [frames.frame(frames.SETTINGS, 0, 0)]
        self._block_ends_stream = False
        kinds = range(frames.CONTINUATION + 1)
        self._scanner = Scanner([self._handler(kind) for kind in kinds])

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the client; returns what it is sent. Raises FrameError."""
        if self._preface_left:
            part = data[: self._preface_left]
            if not frames.PREFACE[-self._preface_left :].startswith(part):
                raise FrameError(frames.PROTOCOL_ERROR, "the client does not speak HTTP/2")
            self._preface_left -= len(part)
            data = data[len(part) :]
        if data:
            self._scanner.feed(data)
            self._scanner.out.clear()
        out, self._out = self._out, []
        return out

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
        self._out.append(frames.refusal(stream, UNAVAILABLE, self._text, answered=False))
        if not self._block_ends_stream:
            self._out.append(frames.rst_stream(stream, frames.NO_ERROR))
        if not self.answered:
            self._out.append(frames.goaway(frames.STREAM_MASK, frames.NO_ERROR))
        self.answered = True
