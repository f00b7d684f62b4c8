"""The stand-in's CRI methods, from bytes to bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from tests.support.standin_images import PulledImage, ScriptedTable
from tests.support.standin_rpc import StatusError, Unary

RUNTIME_NAME = "stand-in"
RUNTIME_VERSION = "1.0.0"

Puller = Callable[[str, cri_pb2.AuthConfig | None], Awaitable[PulledImage]]
"""Pulls a name with credentials; raises StatusError to fail with a status of its choice."""


@dataclass(slots=True)
class ScriptedState:
    """What the methods work on; tests look at it and change it."""

    table: ScriptedTable
    puller: Puller
    ready: bool = True
    containers: dict[str, cri_pb2.CreateContainerRequest] = field(default_factory=dict)


class ScriptedMethods:
    """The methods of one CRI version (`runtime.v1`), on a state that versions share."""

    def __init__(self, api: str, state: ScriptedState) -> None:
        self._api = api
        self._state = state

    def handlers(self) -> dict[str, Unary]:
        """Handlers by gRPC path."""
        return {
            f"/{self._api}.ImageService/ImageFsInfo": self.image_fs_info,
            f"/{self._api}.ImageService/ImageStatus": self.image_status,
            f"/{self._api}.ImageService/ListImages": self.list_images,
            f"/{self._api}.ImageService/PullImage": self.pull_image,
            f"/{self._api}.ImageService/RemoveImage": self.remove_image,
            f"/{self._api}.RuntimeService/CreateContainer": self.create_container,
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
        """StatusResponse with RuntimeReady as the state says."""
        del message
        ready = cri_pb2.RuntimeCondition(type="RuntimeReady", status=self._state.ready)
        if not self._state.ready:
            ready.reason, ready.message = "StandInNotReady", "told not to be ready"
        network = cri_pb2.RuntimeCondition(type="NetworkReady", status=True)
        status = cri_pb2.RuntimeStatus(conditions=[ready, network])
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
        response = cri_pb2.ImageStatusResponse(image=found)
        if found and request.verbose:
            response.info["info"] = json.dumps({"names": [*found.repo_tags, *found.repo_digests]})
        return response.SerializeToString()

    async def image_fs_info(self, message: bytes) -> bytes:
        """ImageFsInfoResponse with one filesystem."""
        del message
        images = self._state.table.images()
        usage = cri_pb2.FilesystemUsage(
            timestamp=time.time_ns(),
            fs_id=cri_pb2.FilesystemIdentifier(mountpoint="/var/lib/stand-in"),
            used_bytes=cri_pb2.UInt64Value(value=sum(image.size for image in images)),
            inodes_used=cri_pb2.UInt64Value(value=len(images)),
        )
        return cri_pb2.ImageFsInfoResponse(image_filesystems=[usage]).SerializeToString()

    async def list_images(self, message: bytes) -> bytes:
        """ListImagesResponse: all images, or the one that the filter names."""
        name = cri_pb2.ListImagesRequest.FromString(message).filter.image.image
        images = self._state.table.listed(name)
        return cri_pb2.ListImagesResponse(images=images).SerializeToString()

    async def remove_image(self, message: bytes) -> bytes:
        """RemoveImageResponse: the image and all its names are gone, or were not there."""
        name = cri_pb2.RemoveImageRequest.FromString(message).image.image
        self._state.table.remove(name)
        return cri_pb2.RemoveImageResponse().SerializeToString()

    async def create_container(self, message: bytes) -> bytes:
        """CreateContainerResponse; NOT_FOUND when the image is not there."""
        request = cri_pb2.CreateContainerRequest.FromString(message)
        image = request.config.image.image
        if self._state.table.find(image) is None:
            details = f'failed to resolve image "{image}": not found'
            raise StatusError(StatusCode.NOT_FOUND, details)
        container_id = f"{len(self._state.containers) + 1:064x}"
        self._state.containers[container_id] = request
        return cri_pb2.CreateContainerResponse(container_id=container_id).SerializeToString()
