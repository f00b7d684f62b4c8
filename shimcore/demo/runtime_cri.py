"""The stand-in's CRI methods, from bytes to bytes."""

from __future__ import annotations

from dataclasses import dataclass

from shimcore.demo.runtime_images import ImageTable
from shimcore.demo.runtime_pull import Puller
from shimcore.demo.runtime_rpc import Unary
from shimcore.pb import cri_pb2

RUNTIME_NAME = "stand-in"
RUNTIME_VERSION = "1.0.0"


@dataclass(slots=True)
class CriState:
    """What the methods work on."""

    table: ImageTable
    puller: Puller


class CriMethods:
    """The methods of one CRI version (`runtime.v1`), on a state that versions share."""

    def __init__(self, api: str, state: CriState) -> None:
        self._api = api
        self._state = state

    def handlers(self) -> dict[str, Unary]:
        """Handlers by gRPC path."""
        return {
            f"/{self._api}.ImageService/ImageStatus": self.image_status,
            f"/{self._api}.ImageService/PullImage": self.pull_image,
            f"/{self._api}.RuntimeService/Status": self.status,
            f"/{self._api}.RuntimeService/Version": self.version,
        }

    async def version(self, message: bytes) -> bytes:
        """VersionResponse."""
        del message
        return cri_pb2.VersionResponse(
            version="0.1.0",
            runtime_name=RUNTIME_NAME,
            runtime_version=RUNTIME_VERSION,
            runtime_api_version=self._api.removeprefix("runtime."),
        ).SerializeToString()

    async def status(self, message: bytes) -> bytes:
        """StatusResponse: all is ready."""
        del message
        conditions = [
            cri_pb2.RuntimeCondition(type=each, status=True)
            for each in ("RuntimeReady", "NetworkReady")
        ]
        status = cri_pb2.RuntimeStatus(conditions=conditions)
        return cri_pb2.StatusResponse(status=status).SerializeToString()

    async def pull_image(self, message: bytes) -> bytes:
        """PullImageResponse with the image's ID, once it is in the table."""
        request = cri_pb2.PullImageRequest.FromString(message)
        name = request.image.image
        pulled = await self._state.puller(name, request.auth if request.HasField("auth") else None)
        self._state.table.add(name, pulled)
        return cri_pb2.PullImageResponse(image_ref=pulled.id).SerializeToString()

    async def image_status(self, message: bytes) -> bytes:
        """ImageStatusResponse, empty when the image is not there."""
        request = cri_pb2.ImageStatusRequest.FromString(message)
        found = self._state.table.find(request.image.image)
        return cri_pb2.ImageStatusResponse(image=found).SerializeToString()
