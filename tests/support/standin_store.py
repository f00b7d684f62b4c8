"""The demo's Images service with what it does not need: Update, and images without a target."""

from __future__ import annotations

from shimcore.demo.runtime_rpc import StatusError, Unary
from shimcore.demo.runtime_store import StoreMethods
from shimcore.pb import containerd_pb2
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.store import SERVICE, UPDATED_FIELDS, record_of
from shimcore.runtime.values import ImageRecord


class ScriptedStore(StoreMethods):
    """Get, Create, Update and Delete, from bytes to bytes."""

    def handlers(self) -> dict[str, Unary]:
        return super().handlers() | {SERVICE + "Update": self.update}

    async def create(self, message: bytes) -> bytes:
        """CreateImageResponse; INVALID_ARGUMENT for a name or a target that is none."""
        image = containerd_pb2.CreateImageRequest.FromString(message).image
        if not image.name or not image.target.digest:
            details = "image name and target must not be empty"
            raise StatusError(StatusCode.INVALID_ARGUMENT, details)
        return await super().create(message)

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
        return containerd_pb2.UpdateImageResponse(image=self.told(record)).SerializeToString()
