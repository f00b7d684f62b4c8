"""The shim as a client of the runtime: one connection, CRI and image store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from shimcore.runtime.values import Blob, ImageOnNode, ImageRecord, Ingest, RuntimeVersion

if TYPE_CHECKING:
    from shimcore.runtime.channel import Metadata


class RuntimeClient:
    """Calls on the side, to the runtime that listens on the unix socket `socket`.

    To be made inside a running event loop; connects when first used. `timeout_s` bounds a
    call, None does not. Every call raises RuntimeCallError for a status that the runtime
    sent and RuntimeUnavailableError when it cannot be reached; cancelling the task cancels
    the call in the runtime.
    """

    def __init__(self, socket: str) -> None:
        # Here and not above: importing grpc takes 100 ms, and `--help` shall not wait for it.
        from shimcore.runtime.channel import Channel  # noqa: PLC0415
        from shimcore.runtime.content import ContentStore  # noqa: PLC0415
        from shimcore.runtime.cri import Cri  # noqa: PLC0415
        from shimcore.runtime.store import ImageStore  # noqa: PLC0415

        self.socket = socket.removeprefix("unix://")
        self._channel = Channel(self.socket)
        self._cri = Cri(self._channel)
        self._store = ImageStore(self._channel)
        self._content = ContentStore(self._channel)

    async def version(self, timeout_s: float | None) -> RuntimeVersion:
        """Name and version of the runtime, and of the CRI that it speaks."""
        return await self._cri.version(timeout_s)

    async def ready(self, timeout_s: float | None) -> tuple[bool, str]:
        """The runtime's RuntimeReady condition, and why it is not met."""
        return await self._cri.ready(timeout_s)

    async def image_status(self, image: str, *, timeout_s: float | None) -> ImageOnNode | None:
        """The image that the name or ID `image` leads to; None when it is not on the node."""
        return await self._cri.image_status(image, timeout_s)

    async def pull_image(
        self, request: bytes, *, timeout_s: float | None, metadata: Metadata = ()
    ) -> bytes:
        """The runtime's serialized PullImageResponse; `request` is a PullImageRequest.

        Both are as they go over the wire; `metadata` goes along.
        """
        return await self._cri.pull_image(request, timeout_s, metadata)

    async def info(self, timeout_s: float | None) -> dict[str, str]:
        """What the runtime says of itself beside its conditions, texts of JSON by name."""
        return await self._cri.info(timeout_s)

    async def store_supported(self, *, timeout_s: float | None) -> bool:
        """Whether the runtime has containerd's image store; asked once for each connection."""
        return await self._store.supported(timeout_s)

    async def store_get(self, name: str, *, timeout_s: float | None) -> ImageRecord | None:
        """The record of the canonical name `name`, or None."""
        return await self._store.get(name, timeout_s)

    async def store_create(self, record: ImageRecord, *, timeout_s: float | None) -> bool:
        """Adds a name; False when it is there already, which changes nothing."""
        return await self._store.create(record, timeout_s)

    async def store_update(self, record: ImageRecord, *, timeout_s: float | None) -> None:
        """Gives a name that is there the labels and the target of `record`."""
        await self._store.update(record, timeout_s)

    async def store_delete(self, name: str, *, timeout_s: float | None) -> bool:
        """Removes a name; False when it was not there."""
        return await self._store.delete(name, timeout_s)

    async def sandbox_image(self, timeout_s: float) -> str:
        """The pods' pause image, out of the runtime's configuration; "" where it is not told."""
        from shimcore.runtime.sandbox_image import (  # noqa: PLC0415 - seldom needed
            configured_sandbox_image,
        )

        return await configured_sandbox_image(self.socket, timeout_s)

    async def ingests(self, *, timeout_s: float | None) -> list[Ingest]:
        """Every blob of the node that is being fetched; UNIMPLEMENTED where none can be seen."""
        return await self._content.ingests(timeout_s)

    async def blob(self, digest: str, *, timeout_s: float | None) -> Blob | None:
        """Size and time of a blob that is on the node whole."""
        return await self._content.blob(digest, timeout_s)

    async def manifest(self, digest: str, *, timeout_s: float | None) -> bytes | None:
        """A manifest that is on the node."""
        return await self._content.read(digest, timeout_s)

    async def aclose(self) -> None:
        """Ends calls under way with RuntimeUnavailableError, and closes the connection."""
        await self._channel.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self.aclose()
