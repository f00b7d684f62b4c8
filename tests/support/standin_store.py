"""The stand-in's containerd Images service, over the same table of names."""

from __future__ import annotations

import time
from dataclasses import replace

from shimcore.pb import containerd_pb2
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.store import SERVICE, UPDATED_FIELDS, image_of, record_of
from shimcore.runtime.values import ImageRecord
from tests.support.standin_images import ScriptedTable
from tests.support.standin_rpc import StatusError, Unary


class ScriptedStore:
    """Get, Create, Update and Delete, from bytes to bytes."""

    def __init__(self, table: ScriptedTable) -> None:
        self._table = table

    def handlers(self) -> dict[str, Unary]:
        """Handlers by gRPC path."""
        return {
            SERVICE + "Get": self.get,
            SERVICE + "Create": self.create,
            SERVICE + "Update": self.update,
            SERVICE + "Delete": self.delete,
        }

    async def get(self, message: bytes) -> bytes:
        """GetImageResponse; NOT_FOUND when the name is not there."""
        record = self._existing(containerd_pb2.GetImageRequest.FromString(message).name)
        return containerd_pb2.GetImageResponse(image=_told(record)).SerializeToString()

    async def create(self, message: bytes) -> bytes:
        """CreateImageResponse; ALREADY_EXISTS when the name is there."""
        image = containerd_pb2.CreateImageRequest.FromString(message).image
        if not image.name or not image.target.digest:
            details = "image name and target must not be empty"
            raise StatusError(StatusCode.INVALID_ARGUMENT, details)
        if image.name in self._table.records:
            raise StatusError(StatusCode.ALREADY_EXISTS, f'image "{image.name}": already exists')
        self._table.records[image.name] = replace(record_of(image), created_at=time.time())
        return containerd_pb2.CreateImageResponse(image=image).SerializeToString()

    async def update(self, message: bytes) -> bytes:
        """UpdateImageResponse; changes the fields of the mask, or all without a mask."""
        request = containerd_pb2.UpdateImageRequest.FromString(message)
        old = self._existing(request.image.name)
        new = record_of(request.image)
        fields = request.update_mask.paths or UPDATED_FIELDS
        for path in fields:
            if path not in UPDATED_FIELDS:
                details = f'cannot update "{path}" field on image "{old.name}"'
                raise StatusError(StatusCode.INVALID_ARGUMENT, details)
        record = ImageRecord(
            name=old.name,
            labels=new.labels if "labels" in fields else old.labels,
            target=new.target if "target" in fields else old.target,
            created_at=old.created_at,
        )
        self._table.records[old.name] = record
        return containerd_pb2.UpdateImageResponse(image=_told(record)).SerializeToString()

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


def _told(record: ImageRecord) -> containerd_pb2.Image:
    """The record as the service tells it."""
    image = image_of(record)
    image.created_at.FromNanoseconds(int(record.created_at * 1e9))
    return image
