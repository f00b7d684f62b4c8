"""The stand-in's containerd Images service, over the same table of names."""

from __future__ import annotations

import time
from dataclasses import replace

from shimcore.demo.runtime_images import ImageTable
from shimcore.demo.runtime_rpc import StatusError, Unary
from shimcore.pb import containerd_pb2
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.store import SERVICE, image_of, record_of
from shimcore.runtime.values import ImageRecord


class StoreMethods:
    """Get, Create and Delete, from bytes to bytes."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table

    def handlers(self) -> dict[str, Unary]:
        """Handlers by gRPC path."""
        return {
            SERVICE + "Get": self.get,
            SERVICE + "Create": self.create,
            SERVICE + "Delete": self.delete,
        }

    async def get(self, message: bytes) -> bytes:
        """GetImageResponse; NOT_FOUND when the name is not there."""
        record = self._existing(containerd_pb2.GetImageRequest.FromString(message).name)
        return containerd_pb2.GetImageResponse(image=self.told(record)).SerializeToString()

    async def create(self, message: bytes) -> bytes:
        """CreateImageResponse; ALREADY_EXISTS when the name is there."""
        image = containerd_pb2.CreateImageRequest.FromString(message).image
        if image.name in self._table.records:
            raise StatusError(StatusCode.ALREADY_EXISTS, f'image "{image.name}": already exists')
        self._table.records[image.name] = replace(record_of(image), created_at=time.time())
        return containerd_pb2.CreateImageResponse(image=image).SerializeToString()

    async def delete(self, message: bytes) -> bytes:
        """google.protobuf.Empty; NOT_FOUND when the name is not there."""
        record = self._existing(containerd_pb2.DeleteImageRequest.FromString(message).name)
        del self._table.records[record.name]
        return b""

    def _existing(self, name: str) -> ImageRecord:
        record = self._table.records.get(name)
        if record is None:
            raise StatusError(StatusCode.NOT_FOUND, f'image "{name}": not found')
        return record

    def told(self, record: ImageRecord) -> containerd_pb2.Image:
        """The record as the service tells it."""
        image = image_of(record)
        image.created_at.FromNanoseconds(int(record.created_at * 1e9))
        return image
