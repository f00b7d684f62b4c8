"""What tests ask of a runtime, and the shim never does."""

from __future__ import annotations

from shimcore.pb import cri_pb2
from shimcore.runtime.channel import Channel


async def remove_image(socket: str, image: str) -> None:
    """Remove the image that `image` leads to; one that is not there is no error."""
    request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image))
    channel = Channel(socket)
    try:
        path = "/runtime.v1.ImageService/RemoveImage"
        await channel.call(path, request.SerializeToString(), timeout_s=5)
    finally:
        await channel.aclose()


def pull_request(image: str) -> bytes:
    """A PullImageRequest as kubelet sends it, without a pod."""
    return cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()


def status_request(image: str) -> bytes:
    """An ImageStatusRequest."""
    return cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image)).SerializeToString()
