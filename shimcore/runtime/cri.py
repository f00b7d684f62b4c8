"""The CRI calls that the shim makes itself, in whichever CRI version the runtime has."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from shimcore.pb import cri_pb2
from shimcore.runtime.channel import Channel
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

    async def pull_image(self, request: bytes, timeout_s: float | None, api: str | None) -> str:
        """The reference of the image pulled; `request` (PullImageRequest) goes as it is."""
        answer = await self._call("ImageService/PullImage", request, timeout_s, api)
        return parsed(cri_pb2.PullImageResponse, answer).image_ref

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
        self, method: str, request: bytes, timeout_s: float | None, api: str | None
    ) -> bytes:
        """Calls `method` ("Service/Method") in version `api`, or in the one that is there."""
        if api is not None:
            return await self._channel.call(f"/{api}.{method}", request, timeout_s=timeout_s)
        first, second = await self._order()
        try:
            return await self._channel.call(f"/{first}.{method}", request, timeout_s=timeout_s)
        except RuntimeCallError as error:
            if error.code != StatusCode.UNIMPLEMENTED:
                raise
            return await self._call_other(f"/{second}.{method}", request, timeout_s, error)

    async def _call_other(
        self, path: str, request: bytes, timeout_s: float | None, refusal: RuntimeCallError
    ) -> bytes:
        """Calls `path` and learns its version; raises `refusal` when that has no such method."""
        try:
            answer = await self._channel.call(path, request, timeout_s=timeout_s)
        except RuntimeCallError as error:
            if error.code == StatusCode.UNIMPLEMENTED:
                raise refusal from error
            self._learn(path)
            raise
        self._learn(path)
        return answer

    def _learn(self, path: str) -> None:
        self._learned = (self._channel.generation, path[1:].rpartition("/")[0].rpartition(".")[0])

    async def _order(self) -> tuple[str, str]:
        """The versions in the order to try: the learned one first, while it holds."""
        preferred, older = API_VERSIONS
        if self._learned == (await self._channel.current_generation(), older):
            return older, preferred
        return preferred, older
