"""Gathers the fragments of one direction's header blocks (RFC 9113 §4.3)."""

from __future__ import annotations

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.limits import FRAGMENT_BYTES, HEADER_BLOCK_BYTES


class BlockGatherer:
    """At most one header block is open in a direction at any time."""

    __slots__ = ("_fragments", "_size", "flags", "frames", "goes_on", "stream")

    def __init__(self) -> None:
        self.stream = 0
        self.flags = 0
        self.goes_on = False  # CONTINUATION is to follow
        self.frames: list[bytes] = []  # the frames as they came, where they must be kept
        self._fragments: list[bytes] = []
        self._size = 0

    def start(self, stream: int, flags: int) -> None:
        """A HEADERS or PUSH_PROMISE frame opens a block; its flags count for the stream."""
        self.stream = stream
        self.flags = flags
        if self._size:
            self._fragments.clear()
            self.frames.clear()
            self._size = 0

    def add(self, fragment: bytes, flags: int) -> bytes | None:
        """The whole block once END_HEADERS is there; raises FrameError when it is too long."""
        self._size += max(len(fragment), FRAGMENT_BYTES)
        if self._size > HEADER_BLOCK_BYTES:
            raise FrameError(
                frames.ENHANCE_YOUR_CALM, f"header block over {HEADER_BLOCK_BYTES} bytes"
            )
        self.goes_on = not flags & frames.END_HEADERS
        if flags & frames.END_HEADERS and not self._fragments:
            return fragment
        self._fragments.append(fragment)
        if not flags & frames.END_HEADERS:
            return None
        block = b"".join(self._fragments)
        self._fragments.clear()
        return block
