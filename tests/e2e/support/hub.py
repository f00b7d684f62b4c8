"""The hub of a cluster: plain http, with a login, under a name; it can be away, or slow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .images import Image
from .recorder import Pace, Recorder
from .registry import Registry
from .stock_node import HUB_PORT

LOGIN = "admin:passw0rd"


class Hub:
    """A registry and, at `ip`, the proxy in front of it by which the nodes reach it."""

    def __init__(self, directory: Path, ip: str) -> None:
        self._ip = ip
        self._registry = Registry(directory, login=LOGIN)
        self._registry.serve()
        self.face = self._faced()

    def push(self, image: Image, repository: str, tag: str) -> None:
        """What it has from then on."""
        self._registry.push(image, repository, tag)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens at its address inside the block."""
        self.face.close()
        try:
            yield
        finally:
            self.face = self._faced()

    @contextlib.contextmanager
    def slow(self, image: Image, repository: str, seconds: float) -> Iterator[None]:
        """A pull of the image takes so long inside the block."""
        (layer,) = image.layers
        pace = Pace(bytes_s=max(int(len(layer.data) / seconds), 1))
        self.face.paces[f"/v2/{repository}/blobs/{layer.digest}"] = pace
        try:
            yield
        finally:
            self.face.let_go()

    def close(self) -> None:
        """Ends both."""
        self.face.close()
        self._registry.stop()

    def _faced(self) -> Recorder:
        return Recorder(self._registry.host, address=(self._ip, HUB_PORT))
