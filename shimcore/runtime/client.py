"""The shim as a client of the runtime: the CRI calls that it makes itself, over one connection.

Importing this imports grpc, which takes 100 ms: whoever may do without it imports it late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from shimcore.jsontext import object_in
from shimcore.pb import cri_pb2
from shimcore.runtime.channel import Channel, Metadata
from shimcore.runtime.content import ContentStore
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.messages import parsed, unless_absent
from shimcore.runtime.sandbox_image import configured_sandbox_image
from shimcore.runtime.store import ImageStore
from shimcore.runtime.values import ImageOnNode, RuntimeVersion

API_VERSIONS = ("runtime.v1", "runtime.v1alpha2")
"""Preferred first; v1alpha2 is what containerd before 1.6 and CRI-O before 1.23 have."""

M = TypeVar("M", bound=Message)


class RuntimeClient:
    """Calls on the side, to the runtime that listens on the unix socket `socket`.

    `store` and `content` are containerd's, beside CRI. To be made inside a running event loop;
    connects when first used. `timeout_s` bounds a call, None does not. Every call raises
    RuntimeCallError for a status that the runtime sent and RuntimeUnavailableError when it cannot
    be reached; cancelling the task cancels the call in the runtime.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket.removeprefix("unix://")
        self._channel = Channel(self.socket)
        self._learned: tuple[int, str] | None = None  # generation, CRI version
        self.store = ImageStore(self._channel)
        self.content = ContentStore(self._channel)

    async def version(self, timeout_s: float | None) -> RuntimeVersion:
        """Name and version of the runtime, and of the CRI that it speaks."""
        request = cri_pb2.VersionRequest(version="0.1.0")
        said = await self._ask(
            "RuntimeService/Version", request, cri_pb2.VersionResponse, timeout_s
        )
        return RuntimeVersion(said.runtime_name, said.runtime_version, said.runtime_api_version)

    async def ready(self, timeout_s: float | None) -> tuple[bool, str]:
        """The runtime's RuntimeReady condition, and why it is not met."""
        request = cri_pb2.StatusRequest()
        said = await self._ask("RuntimeService/Status", request, cri_pb2.StatusResponse, timeout_s)
        for condition in said.status.conditions:
            if condition.type == "RuntimeReady":
                why = ": ".join(part for part in (condition.reason, condition.message) if part)
                return condition.status, why
        return False, "its status has no RuntimeReady condition"

    async def image_status(self, image: str, *, timeout_s: float | None) -> ImageOnNode | None:
        """The image that the name or ID `image` leads to; None when it is not on the node."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image))
        said = await unless_absent(
            self._ask("ImageService/ImageStatus", request, cri_pb2.ImageStatusResponse, timeout_s)
        )
        if said is None or not said.HasField("image"):
            return None
        found = said.image
        return ImageOnNode(found.id, tuple(found.repo_tags), tuple(found.repo_digests))

    async def pull_image(
        self, request: bytes, *, timeout_s: float | None, metadata: Metadata = ()
    ) -> bytes:
        """The runtime's serialized PullImageResponse; `request` is a PullImageRequest.

        Both are as they go over the wire; `metadata` goes along.
        """
        return await self._call("ImageService/PullImage", request, timeout_s, metadata)

    async def settings(self, timeout_s: float | None) -> dict[str, Any]:
        """The runtime's own configuration, as far as it tells it (CRI's Status, verbose)."""
        request = cri_pb2.StatusRequest(verbose=True)
        said = await self._ask("RuntimeService/Status", request, cri_pb2.StatusResponse, timeout_s)
        return object_in(said.info.get("config", "")) or {}

    async def sandbox_image(self, timeout_s: float) -> str:
        """The pods' pause image, out of the runtime's configuration; "" where it is not told."""
        return await configured_sandbox_image(self.socket, timeout_s)

    async def aclose(self) -> None:
        """Ends calls under way with RuntimeUnavailableError, and closes the connection."""
        await self._channel.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self.aclose()

    async def _ask(
        self,
        method: str,
        request: Message,
        response: type[M],
        timeout_s: float | None,
    ) -> M:
        answer = await self._call(method, request.SerializeToString(), timeout_s)
        return parsed(response, answer)

    async def _call(
        self,
        method: str,
        request: bytes,
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> bytes:
        """Calls `method` ("Service/Method") in the version that the runtime has."""

        async def call(version: str) -> bytes:
            path = f"/{version}.{method}"
            return await self._channel.call(path, request, timeout_s=timeout_s, metadata=metadata)

        first, second = await self._order()
        try:
            return await call(first)
        except RuntimeCallError as error:
            if error.code != StatusCode.UNIMPLEMENTED:
                raise
            return await self._call_other(call, second, error)

    async def _call_other(
        self, call: Callable[[str], Awaitable[bytes]], version: str, refusal: RuntimeCallError
    ) -> bytes:
        """Calls in `version` and learns it; raises `refusal` when it has no such method."""
        try:
            answer = await call(version)
        except RuntimeCallError as error:
            if error.code == StatusCode.UNIMPLEMENTED:
                raise refusal from error
            self._learned = (self._channel.generation, version)
            raise
        self._learned = (self._channel.generation, version)
        return answer

    async def _order(self) -> tuple[str, str]:
        """The versions in the order to try: the learned one first, while it holds."""
        preferred, older = API_VERSIONS
        if self._learned == (await self._channel.current_generation(), older):
            return older, preferred
        return preferred, older
