"""Which containerd it is, as far as its way to registries depends on it. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from mmap import mmap


class Release(StrEnum):
    """The releases that read their configuration in the same way."""

    V1 = "1.x"
    V2_0 = "2.0"
    V2_1 = "2.1 or 2.2"
    V2_3 = "2.3 or later"

    @property
    def is_v1(self) -> bool:
        """Whether images belong to the one CRI plugin."""
        return self is Release.V1

    @property
    def has_transfer(self) -> bool:
        """Whether it pulls by its transfer service unless told otherwise."""
        return self in (Release.V2_1, Release.V2_3)


def release_of(version: str) -> Release:
    """The release of a version as CRI tells it: `1.6.20~ds1`, `v2.4.2`, `1.7.23-k3s2`."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    numbers = (int(found[1]), int(found[2])) if found else (1, 0)
    if numbers < (2, 0):
        return Release.V1
    if numbers < (2, 1):
        return Release.V2_0
    return Release.V2_1 if numbers < (2, 3) else Release.V2_3


def release_in(program: bytes | mmap) -> Release:
    """The release of containerd's program, by the names in it; nothing is run."""
    if program.find(b"io.containerd.cri.v1.images") < 0:
        return Release.V1
    if program.find(b"use_local_image_pull") < 0:
        return Release.V2_0
    return Release.V2_1 if program.find(b"io.containerd.server.v1") < 0 else Release.V2_3
