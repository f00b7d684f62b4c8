"""What this room needs of its neighbours, so that each can be played in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shimcore.config import Registry
    from shimcore.reference import Reference
    from shimcore.registry.answers import ManifestAnswer
    from shimcore.runtime import Blob, ImageOnNode, ImageRecord, Ingest
    from shimcore.runtime.channel import Metadata


class Registries(Protocol):
    """The registries as `shimcore.registry.RegistryClient` asks them."""

    async def head_manifest(self, registry: Registry, image: Reference) -> ManifestAnswer:
        """The registry's answer about a candidate; raises nothing but CancelledError."""

    def states(self) -> Mapping[str, str]:
        """Host → "closed", "open" or "half-open"."""


class Runtime(Protocol):
    """The runtime as `shimcore.runtime.RuntimeClient` asks it.

    Every call raises RuntimeCallError for a status that the runtime answered, and
    RuntimeUnavailableError when it cannot be reached.
    """

    async def image_status(self, image: str, *, timeout_s: float | None) -> ImageOnNode | None:
        """The image on the node, or None."""

    async def pull_image(
        self, request: bytes, *, timeout_s: float | None, metadata: Metadata = ()
    ) -> bytes:
        """The runtime's serialized PullImageResponse."""

    async def info(self, timeout_s: float | None) -> dict[str, str]:
        """What the runtime says of itself beside its conditions, texts of JSON by name."""

    async def sandbox_image(self, timeout_s: float) -> str:
        """The pods' pause image, out of the runtime's configuration; "" where it is not told."""

    async def ingests(self, *, timeout_s: float | None) -> list[Ingest]:
        """Every blob of the node that is being fetched."""

    async def blob(self, digest: str, *, timeout_s: float | None) -> Blob | None:
        """Size and time of a blob that is on the node whole."""

    async def manifest(self, digest: str, *, timeout_s: float | None) -> bytes | None:
        """A manifest that is on the node."""

    async def store_supported(self, *, timeout_s: float | None) -> bool:
        """True when the runtime has containerd's image store."""

    async def store_get(self, name: str, *, timeout_s: float | None) -> ImageRecord | None:
        """The record of a canonical name."""

    async def store_create(self, record: ImageRecord, *, timeout_s: float | None) -> bool:
        """False when the name was there already."""

    async def store_update(self, record: ImageRecord, *, timeout_s: float | None) -> None:
        """Sets target and labels of a name."""

    async def store_delete(self, name: str, *, timeout_s: float | None) -> bool:
        """False when the name was not there."""
