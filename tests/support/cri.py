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
