"""Cuts one direction's bytes into frames and passes on what nobody asked about.

A frame is looked at in place and never built; a chunk in which nothing is taken out
leaves as the same bytes object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import repeat

from shimcore.errors import FrameError
from shimcore.relay.frames import FRAME_HEADER, FRAME_HEADER_BYTES, STREAM_MASK
from shimcore.relay.limits import OWN_FRAMES


class Verdict(IntEnum):
    """What becomes of a frame that a handler has seen."""

    PASS = 0  # goes on as it is, also when only its beginning has come yet
    TAKE = 1  # stays here
    WHOLE = 2  # show it again when all of it has come
    AGAIN = 3  # show it again in the next slice: there is more to do for it


# (chunk, start of the payload, end of the frame - perhaps past the chunk -, flags, stream)
Handler = Callable[[bytes, int, int, int, int], Verdict]

_PASS = Verdict.PASS
_TAKE = Verdict.TAKE
_AGAIN = Verdict.AGAIN

# More frames than a chunk has.
ALL_FRAMES = 1 << 32


class Scanner:
    """One direction of a connection: bytes in, bytes out in `out`, frames to handlers.

    `handlers` is indexed by frame type; None, or a type past its end, passes. Frames of
    the relay's own (`inject`) go out only between two frames, never inside a header block
    (RFC 9113 §4.3) and not before `unlock` when the direction starts locked.
    """

    __slots__ = (
        "_at",
        "_feeding",
        "_handlers",
        "_left",
        "_locked",
        "_need",
        "_own",
        "_partial",
        "_rest",
        "blind",
        "in_block",
        "out",
    )

    def __init__(self, handlers: Sequence[Handler | None], *, locked: bool = False) -> None:
        self.out: list[bytes] = []
        self.in_block = False
        self.blind = False
        self._handlers = handlers
        self._partial = bytearray()
        self._need = 0
        self._left = 0
        self._own: list[bytes] = []
        self._locked = locked
        self._feeding = False
        self._rest = b""  # a chunk of which the frames from `_at` on have not been looked at
        self._at = 0

    @property
    def between_frames(self) -> bool:
        """Whether a frame of the relay's own may go out now."""
        return not (self._left or self.in_block or self._locked or self._feeding)

    @property
    def backpressured(self) -> bool:
        """Whether so many frames of the relay's own wait that there should not be more."""
        return len(self._own) > OWN_FRAMES

    def unlock(self) -> None:
        """Frames of the relay's own may go out from the next frame boundary on."""
        self._locked = False

    def inject(self, frames: bytes) -> None:
        """Send whole frames of the relay's own as soon as that is legal."""
        if self.between_frames and not self._own:
            self.out.append(frames)
        else:
            self._own.append(frames)

    def feed(self, data: bytes, frames: int = ALL_FRAMES) -> bool:
        """Take the next bytes of this direction, and look at `frames` of them at the most.

        True when more are left: `go_on` is to look at those before anything else is fed. A
        frame that is to be shown again in the next slice is left, unless there is no limit.
        A FrameError of a handler comes through; the frames before it have gone out.
        """
        if not data:
            return False
        left = self._left
        if self.blind or left > len(data):  # or the middle of a frame that goes on
            self._left = max(left - len(data), 0)
            self.out.append(data)
            return False
        self._left = 0
        self._feeding = True
        if self._partial:
            self._partial += data
            if len(self._partial) < self._need:
                self._feeding = False
                self._release_own()
                return False
            data = bytes(self._partial)
            self._partial = bytearray()
        start = self._scan(data, self._flush(data, 0, left) if left else 0, left, frames)
        if start == 0:
            self.out.append(data)
        elif start < len(data):
            self.out.append(data[start:])
        self._feeding = False
        if self._own:
            self._release_own()
        return bool(self._rest)

    def go_on(self, frames: int = ALL_FRAMES) -> bool:
        """Look at the next frames of the chunk that was fed. True when still more are left."""
        data, at, self._rest = self._rest, self._at, b""
        start = at
        if data and not self.blind:
            self._feeding = True
            start = self._scan(data, at, at, frames)
            self._feeding = False
        if start < len(data):
            self.out.append(data[start:])
        self._release_own()
        return bool(self._rest)

    def _scan(self, data: bytes, start: int, position: int, frames: int) -> int:
        """Go through a chunk's frames; returns where the part begins that is still to pass.

        `position` is where the first frame begins, `start` what is to pass before it. What
        has to wait is kept, and what came before it has gone out; the result is then the
        chunk's length.
        """
        handlers = self._handlers
        kinds = len(handlers)
        unpack = FRAME_HEADER.unpack_from
        size = len(data)
        for _ in repeat(None, frames):
            if size - position < FRAME_HEADER_BYTES:
                break
            high, low, kind, flags, stream = unpack(data, position)
            payload = position + FRAME_HEADER_BYTES
            end = payload + (high << 8 | low)
            handler = handlers[kind] if kind < kinds else None
            if handler is not None:
                try:
                    verdict = handler(data, payload, end, flags, stream & STREAM_MASK)
                except FrameError:
                    self._stop(data, start, position)
                    raise
                if verdict is _AGAIN:
                    if frames == ALL_FRAMES:
                        continue
                    break
                if verdict is not _PASS:
                    if position > start:
                        self.out.append(data[start:position])
                    if verdict is not _TAKE:
                        self._keep(data, position, end - position)
                        return size
                    self._release_own_inside()
                    position = start = end
                    continue
            position = end
            if end > size:
                self._left = end - size
                return start
            if self._own:
                start = self._flush(data, start, position)
        return start if position == size else self._pause(data, start, position)

    def _pause(self, data: bytes, start: int, position: int) -> int:
        """Keep what has not been looked at: the beginning of a frame header, or whole frames."""
        if position > start:
            self.out.append(data[start:position])
        if len(data) - position < FRAME_HEADER_BYTES:
            self._keep(data, position, FRAME_HEADER_BYTES)
        else:
            self._rest, self._at = data, position
        return len(data)

    def _stop(self, data: bytes, start: int, position: int) -> None:
        """A frame cannot be relayed: send what came before it."""
        if position > start:
            self.out.append(data[start:position])
        self._feeding = False

    def _keep(self, data: bytes, position: int, need: int) -> None:
        self._partial = bytearray(memoryview(data)[position:])
        self._need = need

    def _flush(self, data: bytes, start: int, position: int) -> int:
        """At a frame boundary with own frames waiting: send what came before, then them."""
        if not self._own or self.in_block or self._locked:
            return start
        self.out.append(data[start:position])
        self._release_own_inside()
        return position

    def _release_own_inside(self) -> None:
        if self._own and not self.in_block and not self._locked:
            self.out.extend(self._own)
            self._own.clear()

    def _release_own(self) -> None:
        if self._own and self.between_frames:
            self.out.extend(self._own)
            self._own.clear()

    def close(self) -> None:
        """Nothing is fed any more: hold no handlers, which hold this."""
        self._handlers = ()
        self._rest = b""

    def drop_sight(self) -> None:
        """From here on only bytes; what is kept goes on first."""
        self.blind = True
        if self._partial:
            self.out.append(bytes(self._partial))
            self._partial = bytearray()
