"""What both directions of a connection do alike: know each other, and gather header blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from shimcore.errors import FrameError
from shimcore.relay import frames
from shimcore.relay.blocks import BlockGatherer
from shimcore.relay.headers import HeaderDecoder
from shimcore.relay.limits import HEADER_BLOCK_BYTES
from shimcore.relay.scanner import Handler, Verdict
from shimcore.relay.settings import AnnouncedSettings
from shimcore.relay.streams import ConnectionState

PASS, TAKE, WHOLE = Verdict.PASS, Verdict.TAKE, Verdict.WHOLE


class Direction(ABC):
    """Handlers of one side's frames; `handlers()` is what the scanner is given."""

    def __init__(self, client: AnnouncedSettings, upstream: AnnouncedSettings) -> None:
        self._client_settings = client
        self._upstream_settings = upstream
        self.decoder = HeaderDecoder()
        self.peer = self.decoder  # the other direction's, whose bound this one announces
        self._block = BlockGatherer()
        self._keep_block = False  # the frames of the open block do not go on as they come
        self._state: ConnectionState

    def attach(self, state: ConnectionState, peer: HeaderDecoder) -> None:
        """Give the handlers what they share with the other direction, and its decoder."""
        self._state = state
        self.peer = peer

    def handlers(self) -> list[Handler | None]:
        """Indexed by frame type; what is missing passes."""
        table: list[Handler | None] = [None] * (frames.CONTINUATION + 1)
        table[frames.DATA] = self.on_data
        table[frames.HEADERS] = self.on_headers
        table[frames.CONTINUATION] = self.on_continuation
        table[frames.RST_STREAM] = self.on_reset
        table[frames.SETTINGS] = self.on_settings
        table[frames.WINDOW_UPDATE] = self.on_window_update
        return table

    @abstractmethod
    def on_data(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.1."""

    @abstractmethod
    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.2."""

    @abstractmethod
    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.4."""

    @abstractmethod
    def on_settings(self, data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        """§6.5."""

    @abstractmethod
    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.9."""

    def on_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream: int
    ) -> Verdict:
        """§6.10."""
        if end > len(data):
            return self._part_of_block(end - start)
        if stream != self._block.stream or not self._block.goes_on:
            return PASS  # a protocol error, which the other end answers
        return self._fragment(data, start, end, flags, data[start:end])

    @staticmethod
    def _part_of_block(size: int) -> Verdict:
        """A block's frame of which more is to come. Raises FrameError when it is too long."""
        if size > HEADER_BLOCK_BYTES:
            raise FrameError(frames.ENHANCE_YOUR_CALM, "header block over 1 MiB")
        return WHOLE

    @abstractmethod
    def _fragment(self, data: bytes, start: int, end: int, flags: int, fragment: bytes) -> Verdict:
        """Take a frame of the open block into account; `fragment` is its part of the block."""
