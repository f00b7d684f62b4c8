"""What the runtime says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shimcore.pb import containerd_pb2


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """What runs behind the socket: `containerd`, `1.7.27`, and the CRI version `v1`."""

    name: str
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class ImageOnNode:
    """An image that the runtime has: its ID and the names that lead to it."""

    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A name in containerd's image store, in canonical form, and what it points at.

    `target`: a manifest or index (OCI image-spec, descriptor.md); its `size` is in bytes.
    `created_at`: since when the name is there (seconds since 1970); a change of its target
    leaves it as it is.
    """

    name: str
    labels: Mapping[str, str]
    target: containerd_pb2.Descriptor
    created_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Ingest:
    """A blob that is being fetched: `ref` (`layer-sha256:…`), bytes that are there and in all
    (0: not known), and when the last came (seconds since 1970)."""

    ref: str
    offset: int
    total: int
    updated_at: float

    @property
    def digest(self) -> str:
        """The blob's digest, the end of its ref."""
        return self.ref.partition("-")[2]


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is there whole: its bytes, and since when (seconds since 1970).

    `unpacked`: it is the config of an image whose layers are unpacked.
    """

    size: int
    created_at: float
    unpacked: bool = False
