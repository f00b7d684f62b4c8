"""containerd's Content service for a stand-in: what is being fetched, and what is there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shimcore.pb import containerd_pb2
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.values import Blob, Ingest
from tests.support.standin_rpc import StatusError, Unary

SERVICE = "/containerd.services.content.v1.Content/"
READ = SERVICE + "Read"


@dataclass(slots=True)
class ContentTable:
    """Blobs by digest: those that are being fetched, and those that are whole."""

    ingests: dict[str, Ingest] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)

    def came(self, kind: str, digest: str, offset: int, total: int) -> None:
        """So many bytes of a blob have come by now."""
        self.ingests[digest] = Ingest(f"{kind}-{digest}", offset, total, time.time())

    def whole(self, digest: str, size: int, manifest: bytes | None = None) -> None:
        """All of a blob has come; of a manifest the bytes are kept."""
        self.ingests.pop(digest, None)
        self.blobs.setdefault(digest, Blob(size, time.time()))
        if manifest is not None:
            self.manifests[digest] = manifest


class ContentMethods:
    """ListStatuses and Info, from bytes to bytes, and the bytes that Read gives."""

    def __init__(self, table: ContentTable) -> None:
        self._table = table

    def handlers(self) -> dict[str, Unary]:
        """Handlers by gRPC path."""
        return {SERVICE + "ListStatuses": self.list_statuses, SERVICE + "Info": self.info}

    async def list_statuses(self, message: bytes) -> bytes:
        """ListStatusesResponse."""
        del message
        statuses = []
        for one in self._table.ingests.values():
            status = containerd_pb2.Status(ref=one.ref, offset=one.offset, total=one.total)
            status.updated_at.FromNanoseconds(int(one.updated_at * 1e9))
            statuses.append(status)
        return containerd_pb2.ListStatusesResponse(statuses=statuses).SerializeToString()

    async def info(self, message: bytes) -> bytes:
        """InfoResponse; NOT_FOUND when the blob is not there whole."""
        digest = containerd_pb2.InfoRequest.FromString(message).digest
        blob = self._table.blobs.get(digest)
        if blob is None:
            raise StatusError(StatusCode.NOT_FOUND, f"content {digest}: not found")
        info = containerd_pb2.Info(digest=digest, size=blob.size)
        info.created_at.FromNanoseconds(int(blob.created_at * 1e9))
        info.labels["containerd.io/gc.ref.snapshot.overlayfs"] = ""  # it is unpacked at once
        return containerd_pb2.InfoResponse(info=info).SerializeToString()

    def read(self, message: bytes) -> bytes:
        """One ReadContentResponse; NOT_FOUND for what is no manifest that is there."""
        digest = containerd_pb2.ReadContentRequest.FromString(message).digest
        data = self._table.manifests.get(digest)
        if data is None:
            raise StatusError(StatusCode.NOT_FOUND, f"content {digest}: not found")
        return containerd_pb2.ReadContentResponse(data=data).SerializeToString()
