"""The CRI calls that the shim makes itself, in whichever CRI version the runtime has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from shimcore.pb import cri_pb2
from shimcore.runtime.channel import Channel, Metadata
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.messages import parsed
from shimcore.runtime.values import ImageOnNode, RuntimeVersion

API_VERSIONS = ("runtime.v1", "runtime.v1alpha2")
"""Preferred first; v1alpha2 is what containerd before 1.6 and CRI-O before 1.23 have."""

M = TypeVar("M", bound=Message)


class Cri:
    """CRI over `channel`; remembers which version the runtime answers to."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._learned: tuple[int, str] | None = None  # generation, version

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

    async def image_status(
        self, image: str, timeout_s: float | None, api: str | None
    ) -> ImageOnNode | None:
        """The image that the name or ID `image` leads to; None when it is not on the node."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image))
        try:
            said = await self._ask(
                "ImageService/ImageStatus", request, cri_pb2.ImageStatusResponse, timeout_s, api
            )
        except RuntimeCallError as error:
            if error.code == StatusCode.NOT_FOUND:
                return None
            raise
        if not said.HasField("image"):
            return None
        found = said.image
        return ImageOnNode(found.id, tuple(found.repo_tags), tuple(found.repo_digests))

    async def pull_image(
        self, request: bytes, timeout_s: float | None, metadata: Metadata = ()
    ) -> bytes:
        """The runtime's PullImageResponse, as it came; `request` goes as it is, too."""
        return await self._call("ImageService/PullImage", request, timeout_s, None, metadata)

    async def info(self, timeout_s: float | None) -> dict[str, str]:
        """What the runtime says of itself beside its conditions, texts of JSON by name."""
        request = cri_pb2.StatusRequest(verbose=True)
        said = await self._ask("RuntimeService/Status", request, cri_pb2.StatusResponse, timeout_s)
        return dict(said.info)

    async def remove_image(self, image: str, timeout_s: float | None, api: str | None) -> None:
        """Removes the image that `image` leads to; one that is not there is no error."""
        request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image))
        await self._ask(
            "ImageService/RemoveImage", request, cri_pb2.RemoveImageResponse, timeout_s, api
        )

    async def _ask(
        self,
        method: str,
        request: Message,
        response: type[M],
        timeout_s: float | None,
        api: str | None = None,
    ) -> M:
        answer = await self._call(method, request.SerializeToString(), timeout_s, api)
        return parsed(response, answer)

    async def _call(
        self,
        method: str,
        request: bytes,
        timeout_s: float | None,
        api: str | None,
        metadata: Metadata = (),
    ) -> bytes:
        """Calls `method` ("Service/Method") in version `api`, or in the one that is there."""

        async def call(version: str) -> bytes:
            path = f"/{version}.{method}"
            return await self._channel.call(path, request, timeout_s=timeout_s, metadata=metadata)

        if api is not None:
            return await call(api)
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
