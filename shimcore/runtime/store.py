"""containerd's image store: the names of images, and what they point at."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from shimcore.pb import containerd_pb2
from shimcore.runtime.channel import Channel
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.messages import parsed, unless_absent
from shimcore.runtime.values import ImageRecord

SERVICE = "/containerd.services.images.v1.Images/"

NAMESPACE = (("containerd-namespace", "k8s.io"),)
"""The namespace in which containerd's CRI plugin keeps its images."""

ABSENT_NAME = "image-cri-shim.invalid/is/this:containerd"
"""A name that cannot be there (RFC 2606 §2): asking for it tells whether the store is."""

UPDATED_FIELDS = ("labels", "target")

ANSWER_S = 10.0
"""Bound on one call; the store answers in milliseconds when the node is well."""


class ImageStore:
    """The image store over `channel`; remembers whether the runtime has one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._learned: tuple[int, bool] | None = None  # generation, supported

    @property
    def seen(self) -> bool:
        """Whether the runtime has been found to have this store."""
        return self._learned is not None and self._learned[1]

    async def supported(self) -> bool:
        """Whether the runtime has this store; asked once for each connection."""
        generation = await self._channel.current_generation()
        if self._learned is not None and self._learned[0] == generation:
            return self._learned[1]
        try:
            await self.get(ABSENT_NAME)
        except RuntimeCallError as error:
            if error.code == StatusCode.UNIMPLEMENTED:
                return False
            raise
        self._learned = (self._channel.generation, True)
        return True

    async def get(self, name: str) -> ImageRecord | None:
        """The record of `name`, or None."""
        request = containerd_pb2.GetImageRequest(name=name).SerializeToString()
        answer = await unless_absent(self._call("Get", request))
        if answer is None:
            return None
        return record_of(parsed(containerd_pb2.GetImageResponse, answer).image)

    async def create(self, record: ImageRecord) -> bool:
        """Adds a name; False when it is there already, which changes nothing."""
        request = containerd_pb2.CreateImageRequest(image=image_of(record)).SerializeToString()
        return await self._happened("Create", request, StatusCode.ALREADY_EXISTS)

    async def update(self, record: ImageRecord) -> None:
        """Gives a name that is there the labels and the target of `record`."""
        request = containerd_pb2.UpdateImageRequest(
            image=image_of(record), update_mask=FieldMask(paths=UPDATED_FIELDS)
        ).SerializeToString()
        await self._call("Update", request)

    async def delete(self, name: str) -> bool:
        """Removes a name; False when it was not there. What it named is collected later."""
        request = containerd_pb2.DeleteImageRequest(name=name).SerializeToString()
        return await self._happened("Delete", request, StatusCode.NOT_FOUND)

    async def _happened(self, method: str, request: bytes, needless: StatusCode) -> bool:
        """True when the call did something, False when the answer is the status `needless`."""
        try:
            await self._call(method, request)
        except RuntimeCallError as error:
            if error.code == needless:
                return False
            raise
        return True

    async def _call(self, method: str, request: bytes) -> bytes:
        try:
            return await self._channel.call(
                SERVICE + method, request, timeout_s=ANSWER_S, metadata=NAMESPACE
            )
        except RuntimeCallError as error:
            if error.code == StatusCode.UNIMPLEMENTED:
                self._learned = (self._channel.generation, False)
            raise


def image_of(record: ImageRecord) -> containerd_pb2.Image:
    """The record without its time, which is the store's to say."""
    return containerd_pb2.Image(name=record.name, labels=record.labels, target=record.target)


def record_of(image: containerd_pb2.Image) -> ImageRecord:
    """The image of a message as a value."""
    created_at = image.created_at.ToNanoseconds() / 1e9
    return ImageRecord(image.name, dict(image.labels), image.target, created_at)
