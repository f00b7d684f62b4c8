"""A stand-in for containerd: CRI and the image store on a unix socket, as far as a pull needs them.

It pulls for real, but runs nothing. Names are made as containerd's CRI plugin makes them: a pull
gives the image the name that was asked for, the name with its digest, and its ID; each of them
leads to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeAlias
from urllib.parse import quote

import grpc
import grpc.aio
import httpx
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from shimcore.demo.process import DemoError
from shimcore.demo.registry_images import digest_of
from shimcore.errors import ShimError
from shimcore.pb import containerd_pb2, cri_pb2
from shimcore.reference import Reference, parse, parse_reference
from shimcore.runtime.store import SERVICE as STORE

MANAGED_LABELS = {"io.cri-containerd.image": "managed"}
"""The mark that containerd's CRI plugin leaves on the names that it made."""
PULL_TIMEOUT_S = 30.0

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Method: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Behaviour = Callable[[bytes, Context], Awaitable[Message]]


class StandInRuntime(grpc.GenericRpcHandler):
    """A runtime at `socket_path`; what it does not know is UNIMPLEMENTED."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = os.path.abspath(socket_path)
        self.pulls: list[cri_pb2.PullImageRequest] = []
        """Every PullImage that arrived, oldest first; may be cleared."""
        self._names: dict[str, containerd_pb2.Image] = {}
        self._behaviours: dict[str, Behaviour] = {
            "/runtime.v1.RuntimeService/Version": _version,
            "/runtime.v1.RuntimeService/Status": _status,
            "/runtime.v1.ImageService/ImageStatus": self._image_status,
            "/runtime.v1.ImageService/PullImage": self._pull_image,
            STORE + "Get": self._get,
            STORE + "Create": self._create,
            STORE + "Delete": self._delete,
        }
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens; a socket that a dead runtime left behind is replaced."""
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port("unix:" + quote(self.socket_path))
        await self._server.start()

    async def __aenter__(self) -> Self:
        """The runtime, listening."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops at once."""
        if self._server is not None:
            await self._server.stop(None)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Method | None:
        """The handler for a call's path (grpc.GenericRpcHandler)."""
        behaviour = self._behaviours.get(handler_call_details.method)
        if behaviour is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            behaviour, response_serializer=lambda answer: answer.SerializeToString()
        )

    async def _pull_image(self, message: bytes, context: Context) -> Message:
        request = cri_pb2.PullImageRequest.FromString(message)
        self.pulls.append(request)
        try:
            image = parse_reference(request.image.image)
            target, image_id = await _pulled(image, request.auth)
        except (ShimError, httpx.HTTPError) as error:
            details = f"failed to pull image {request.image.image!r}: {error}"
            await context.abort(grpc.StatusCode.UNKNOWN, details)
        for name in (str(image), f"{image.name}@{target.digest}", image_id):
            self._put(name, target, MANAGED_LABELS)
        return cri_pb2.PullImageResponse(image_ref=image_id)

    async def _image_status(self, message: bytes, _: Context) -> Message:
        """Empty when the image is not there."""
        asked = cri_pb2.ImageStatusRequest.FromString(message).image.image
        found = self._names.get(str(parse(asked)))
        if found is None:
            return cri_pb2.ImageStatusResponse()
        names = [name for name, one in self._names.items() if one.target == found.target]
        image = cri_pb2.Image(
            id=next(name for name in names if name.startswith("sha256:")),
            repo_tags=[name for name in names if "@" not in name and "/" in name],
            repo_digests=[name for name in names if "@" in name],
            size=found.target.size,
        )
        return cri_pb2.ImageStatusResponse(image=image)

    async def _get(self, message: bytes, context: Context) -> Message:
        name = containerd_pb2.GetImageRequest.FromString(message).name
        return containerd_pb2.GetImageResponse(image=await self._existing(name, context))

    async def _create(self, message: bytes, context: Context) -> Message:
        image = containerd_pb2.CreateImageRequest.FromString(message).image
        if image.name in self._names:
            details = f'image "{image.name}": already exists'
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, details)
        self._put(image.name, image.target, image.labels)
        return containerd_pb2.CreateImageResponse(image=image)

    async def _delete(self, message: bytes, context: Context) -> Message:
        name = containerd_pb2.DeleteImageRequest.FromString(message).name
        del self._names[(await self._existing(name, context)).name]
        return Empty()

    async def _existing(self, name: str, context: Context) -> containerd_pb2.Image:
        if name not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'image "{name}": not found')
        return self._names[name]

    def _put(self, name: str, target: containerd_pb2.Descriptor, labels: Mapping[str, str]) -> None:
        """Have the name; one that is there keeps its time."""
        image = self._names.setdefault(name, containerd_pb2.Image(name=name))
        if not image.HasField("created_at"):
            image.created_at.GetCurrentTime()
        image.target.CopyFrom(target)
        image.labels.update(labels)


async def _version(_message: bytes, _: Context) -> Message:
    return cri_pb2.VersionResponse(
        version="0.1.0",
        runtime_name="stand-in",
        runtime_version="1.0.0",
        runtime_api_version="v1",
    )


async def _status(_message: bytes, _: Context) -> Message:
    """All is ready."""
    kinds = ("RuntimeReady", "NetworkReady")
    conditions = [cri_pb2.RuntimeCondition(type=each, status=True) for each in kinds]
    return cri_pb2.StatusResponse(status=cri_pb2.RuntimeStatus(conditions=conditions))


async def _pulled(
    image: Reference, auth: cri_pb2.AuthConfig
) -> tuple[containerd_pb2.Descriptor, str]:
    """The image's manifest, once all of it was fetched over plain HTTP, and the image's ID.

    Raises DemoError and httpx.HTTPError.
    """
    async with httpx.AsyncClient(
        base_url=f"http://{image.domain}/v2/{image.path}",
        auth=(auth.username, auth.password),
        timeout=PULL_TIMEOUT_S,
        trust_env=False,
    ) as http:
        answer = (await http.get(f"manifests/{image.manifest_reference}")).raise_for_status()
        manifest = json.loads(answer.content)
        size = len(answer.content)
        for blob in (manifest["config"], *manifest["layers"]):
            content = (await http.get(f"blobs/{blob['digest']}")).raise_for_status().content
            if digest_of(content) != blob["digest"]:
                raise DemoError(f"{blob['digest']}: what came has another digest")
            size += len(content)
    target = containerd_pb2.Descriptor(
        media_type=answer.headers["content-type"], digest=digest_of(answer.content), size=size
    )
    return target, manifest["config"]["digest"]
