"""containerd's content store: its blobs, and how far those are that are being fetched."""

from __future__ import annotations

from shimcore.pb import containerd_pb2
from shimcore.runtime.channel import Channel
from shimcore.runtime.messages import parsed, unless_absent
from shimcore.runtime.store import NAMESPACE
from shimcore.runtime.values import Blob, Ingest

SERVICE = "/containerd.services.content.v1.Content/"

MANIFEST_LIMIT_BYTES = 4 << 20
"""The size up to which registries have to take manifests (distribution-spec, "Pushing")."""

_UNPACKED = "containerd.io/gc.ref.snapshot."
"""How the labels begin that the config of an image has once its layers are unpacked."""

ANSWER_S = 5.0
"""Bound on one question."""


class ContentStore:
    """The content store over `channel`. A runtime without one answers UNIMPLEMENTED."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def ingests(self) -> list[Ingest]:
        """Every blob of the node that is being fetched, or was when its pull ended."""
        request = containerd_pb2.ListStatusesRequest().SerializeToString()
        answer = await self._call("ListStatuses", request)
        statuses = parsed(containerd_pb2.ListStatusesResponse, answer).statuses
        return [
            Ingest(one.ref, one.offset, one.total, one.updated_at.ToNanoseconds() / 1e9)
            for one in statuses
        ]

    async def blob(self, digest: str) -> Blob | None:
        """Size and time of a blob that is there whole; None while it is not."""
        request = containerd_pb2.InfoRequest(digest=digest).SerializeToString()
        answer = await unless_absent(self._call("Info", request))
        if answer is None:
            return None
        info = parsed(containerd_pb2.InfoResponse, answer).info
        unpacked = any(label.startswith(_UNPACKED) for label in info.labels)
        return Blob(info.size, info.created_at.ToNanoseconds() / 1e9, unpacked)

    async def manifest(self, digest: str) -> bytes | None:
        """A manifest's bytes, or None while it is not there; MANIFEST_LIMIT_BYTES at most."""
        request = containerd_pb2.ReadContentRequest(digest=digest).SerializeToString()
        parts = await unless_absent(
            self._channel.stream(
                SERVICE + "Read",
                request,
                timeout_s=ANSWER_S,
                limit_bytes=MANIFEST_LIMIT_BYTES,
                metadata=NAMESPACE,
            )
        )
        if parts is None:
            return None
        return b"".join(parsed(containerd_pb2.ReadContentResponse, part).data for part in parts)

    async def _call(self, method: str, request: bytes) -> bytes:
        return await self._channel.call(
            SERVICE + method, request, timeout_s=ANSWER_S, metadata=NAMESPACE
        )
