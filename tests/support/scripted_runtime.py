"""The demo's stand-in runtime, told what to do: other methods, faults, and made-up images.

`python -m tests.support.scripted_runtime --socket PATH` runs one as a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from shimcore.demo.runtime import StandInRuntime
from shimcore.demo.runtime_cri import CriMethods, CriState
from shimcore.demo.runtime_images import PulledImage, pullable
from shimcore.demo.runtime_pull import Puller
from shimcore.demo.runtime_rpc import (
    Context,
    Journal,
    Metadata,
    Method,
    StatusError,
    Unary,
    unary_method,
)
from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from tests.support.registry_puller import RegistryPuller
from tests.support.standin_content import READ, ContentMethods, ContentTable
from tests.support.standin_images import ScriptedTable
from tests.support.standin_store import ScriptedStore

API_VERSIONS = ("runtime.v1", "runtime.v1alpha2")

Streaming = Callable[[bytes, Metadata], AsyncIterator[bytes]]

INITIAL_METADATA: Metadata = (("x-stand-in", "hello"), ("x-stand-in-bin", b"\x00\xff"))
TRAILING_METADATA: Metadata = (("x-stand-in-trailer", "bye"), ("x-trailer-bin", b"\xff\x00"))
"""Sent with every stream and echo, for those who test that metadata is kept."""

STOP_GRACE_S = 1.0


async def pull_out_of_thin_air(image: str, auth: cri_pb2.AuthConfig | None = None) -> PulledImage:
    """An image made up from the last part of its name: the same one on every registry."""
    del auth
    reference = pullable(image)
    seed = f"{reference.path.rpartition('/')[2]}:{reference.manifest_reference}"
    digest = reference.digest or _digest(b"manifest of " + seed.encode())
    return PulledImage(_digest(b"config of " + seed.encode()), digest, size=len(seed) << 20)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(slots=True)
class ScriptedState(CriState):
    """What the methods work on; tests look at it and change it."""

    table: ScriptedTable
    ready: bool = True
    containers: dict[str, cri_pb2.CreateContainerRequest] = field(default_factory=dict)


class ScriptedMethods(CriMethods):
    """Further methods of one CRI version, on a state that says how the runtime is."""

    def __init__(self, api: str, state: ScriptedState) -> None:
        super().__init__(api, state)
        self._scripted = state

    def handlers(self) -> dict[str, Unary]:
        return super().handlers() | {
            f"/{self._api}.ImageService/ImageFsInfo": self.image_fs_info,
            f"/{self._api}.ImageService/ListImages": self.list_images,
            f"/{self._api}.ImageService/RemoveImage": self.remove_image,
            f"/{self._api}.RuntimeService/CreateContainer": self.create_container,
        }

    async def status(self, message: bytes) -> bytes:
        """StatusResponse with RuntimeReady as the state says."""
        del message
        ready = cri_pb2.RuntimeCondition(type="RuntimeReady", status=self._scripted.ready)
        if not self._scripted.ready:
            ready.reason, ready.message = "StandInNotReady", "told not to be ready"
        network = cri_pb2.RuntimeCondition(type="NetworkReady", status=True)
        status = cri_pb2.RuntimeStatus(conditions=[ready, network])
        return cri_pb2.StatusResponse(status=status).SerializeToString()

    async def image_status(self, message: bytes) -> bytes:
        """ImageStatusResponse, with its info where that is asked for."""
        response = cri_pb2.ImageStatusResponse.FromString(await super().image_status(message))
        if cri_pb2.ImageStatusRequest.FromString(message).verbose and response.HasField("image"):
            names = [*response.image.repo_tags, *response.image.repo_digests]
            response.info["info"] = json.dumps({"names": names})
        return response.SerializeToString()

    async def image_fs_info(self, message: bytes) -> bytes:
        """ImageFsInfoResponse with one filesystem."""
        del message
        images = self._scripted.table.images()
        usage = cri_pb2.FilesystemUsage(
            timestamp=time.time_ns(),
            fs_id=cri_pb2.FilesystemIdentifier(mountpoint="/var/lib/stand-in"),
            used_bytes=cri_pb2.UInt64Value(value=sum(image.size for image in images)),
            inodes_used=cri_pb2.UInt64Value(value=len(images)),
        )
        return cri_pb2.ImageFsInfoResponse(image_filesystems=[usage]).SerializeToString()

    async def list_images(self, message: bytes) -> bytes:
        """ListImagesResponse: all images, or the one that the filter names."""
        name = cri_pb2.ListImagesRequest.FromString(message).filter.image.image
        images = self._scripted.table.listed(name)
        return cri_pb2.ListImagesResponse(images=images).SerializeToString()

    async def remove_image(self, message: bytes) -> bytes:
        """RemoveImageResponse: the image and all its names are gone, or were not there."""
        name = cri_pb2.RemoveImageRequest.FromString(message).image.image
        self._scripted.table.remove(name)
        return cri_pb2.RemoveImageResponse().SerializeToString()

    async def create_container(self, message: bytes) -> bytes:
        """CreateContainerResponse; NOT_FOUND when the image is not there."""
        request = cri_pb2.CreateContainerRequest.FromString(message)
        image = request.config.image.image
        if self._state.table.find(image) is None:
            details = f'failed to resolve image "{image}": not found'
            raise StatusError(StatusCode.NOT_FOUND, details)
        container_id = f"{len(self._scripted.containers) + 1:064x}"
        self._scripted.containers[container_id] = request
        return cri_pb2.CreateContainerResponse(container_id=container_id).SerializeToString()


class ScriptedJournal(Journal):
    """With the paths of calls that the client gave up; may hold answers back."""

    def __init__(self, *, enabled: bool, latency_s: float) -> None:
        super().__init__()
        self.enabled = enabled
        self.latency_s = latency_s
        self.cancelled: list[str] = []

    def arrived(self, path: str, request: bytes, metadata: Metadata) -> None:
        """Adds a call, unless the journal is off."""
        if self.enabled:
            super().arrived(path, request, metadata)

    @asynccontextmanager
    async def answering(self, path: str, context: Context) -> AsyncIterator[None]:
        """Holds the answer back for the latency, and notes who does not wait for it."""
        try:
            async with super().answering(path, context):
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                yield
        except asyncio.CancelledError:
            self.cancelled.append(path)
            raise


class ScriptedRuntime(StandInRuntime):
    """A runtime at `socket_path`, between `start` and `stop`; may be started again.

    Beside CRI (`versions`) and the image store it answers any `/x/Echo` with the request,
    any `/x/Stream` with as many messages as the metadata `count` says (3), and any `/x/Chat`
    with each message of the stream that comes in. All else is UNIMPLEMENTED.

    `puller`, `latency_s`, `state.ready` and `overrides` may be changed at any time; an
    override answers instead of the method that its key names, a full path or `Service/Method`,
    and may raise StatusError, or wait for ever.
    """

    table: ScriptedTable
    journal: ScriptedJournal

    def __init__(
        self,
        socket_path: str,
        *,
        image_store: bool = True,
        versions: Sequence[str] = API_VERSIONS,
        puller: Puller | None = None,
        latency_s: float = 0.0,
        record: bool = True,
    ) -> None:
        super().__init__(socket_path)
        self.table = ScriptedTable()
        pulls = puller or RegistryPuller()
        self.content = pulls.content if isinstance(pulls, RegistryPuller) else ContentTable()
        self.state = ScriptedState(self.table, pulls)
        self.journal = ScriptedJournal(enabled=record, latency_s=latency_s)
        self.overrides: dict[str, Unary] = {}
        for api in API_VERSIONS:
            self.handlers |= ScriptedMethods(api, self.state).handlers()
        self.handlers |= ScriptedStore(self.table).handlers()
        self.handlers |= ContentMethods(self.content).handlers()
        self._served = (*(f"/{api}." for api in versions), *(["/containerd."] * image_store))

    @property
    def puller(self) -> Puller:
        """What PullImage pulls with."""
        return self.state.puller

    @puller.setter
    def puller(self, puller: Puller) -> None:
        self.state.puller = puller

    @property
    def latency_s(self) -> float:
        """How long each answer is held back."""
        return self.journal.latency_s

    @latency_s.setter
    def latency_s(self, latency_s: float) -> None:
        self.journal.latency_s = latency_s

    @property
    def cancelled(self) -> list[str]:
        """The paths of the calls that the client gave up, oldest first; may be cleared."""
        return self.journal.cancelled

    def method(self, path: str, metadata: Metadata) -> Method:
        """The handler for a path: an override, a method of these, or the runtime's own."""
        override = self.overrides.get(path) or self.overrides.get(path.rpartition(".")[2])
        if override is not None:
            return unary_method(path, metadata, self.journal, override)
        if path.endswith("/Echo"):
            return _stream(path, metadata, self.journal, _echoed)
        if path.endswith("/Stream"):
            return _stream(path, metadata, self.journal, _counted)
        if path.endswith("/Chat"):
            return _chat(path, metadata, self.journal)
        if not path.startswith(self._served):
            return unary_method(path, metadata, self.journal, None)
        if path.endswith("/StreamImages"):
            return _stream(path, metadata, self.journal, self._stream_images)
        if path == READ:
            return _stream(path, metadata, self.journal, self._read)
        return super().method(path, metadata)

    async def _stream_images(self, request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
        del metadata
        name = cri_pb2.StreamImagesRequest.FromString(request).filter.image.image
        for image in self.table.listed(name):
            yield cri_pb2.StreamImagesResponse(images=[image]).SerializeToString()

    async def _read(self, request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
        del metadata
        yield ContentMethods(self.content).read(request)


def _stream(path: str, metadata: Metadata, journal: Journal, messages: Streaming) -> Method:
    """A method of one request and a stream of responses, with metadata before and after."""

    async def behaviour(request: bytes, context: Context) -> AsyncIterator[bytes]:
        journal.arrived(path, request, metadata)
        async with journal.answering(path, context):
            await context.send_initial_metadata(INITIAL_METADATA)
            context.set_trailing_metadata(TRAILING_METADATA)
            async for message in messages(request, metadata):
                yield message

    return grpc.unary_stream_rpc_method_handler(behaviour)


def _chat(path: str, metadata: Metadata, journal: Journal) -> Method:
    """A method that answers each message of a stream with itself."""

    async def behaviour(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        first = True
        async with journal.answering(path, context):
            async for request in requests:
                if first:
                    journal.arrived(path, request, metadata)
                    first = False
                yield request

    return grpc.stream_stream_rpc_method_handler(behaviour)


async def _echoed(request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
    """The request, alone."""
    del metadata
    yield request


async def _counted(request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
    """`0:request`, `1:request`, …: as many as the metadata `count` says, or else 3."""
    count = int(dict(metadata).get("count", "3"))
    for index in range(count):
        yield f"{index}:".encode() + request


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.support.scripted_runtime", description=__doc__)
    parser.add_argument("--socket", required=True, help="path of the unix socket to listen on")
    parser.add_argument("--api", action="append", help="CRI version, may be repeated (both)")
    parser.add_argument("--no-image-store", action="store_true", help="be no containerd")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each answer")
    parser.add_argument(
        "--host", action="append", default=[], metavar="HOST=URL", help="where a registry is"
    )
    parser.add_argument("--ca-file", help="certificate authorities to trust")
    parser.add_argument("--make-up", action="store_true", help="make images up, ask no registry")
    return parser.parse_args(argv)


async def _serve(arguments: argparse.Namespace, say: Callable[[str], None]) -> None:
    hosts = dict(each.split("=", 1) for each in arguments.host)
    runtime = ScriptedRuntime(
        arguments.socket,
        image_store=not arguments.no_image_store,
        versions=arguments.api or API_VERSIONS,
        puller=pull_out_of_thin_air
        if arguments.make_up
        else RegistryPuller(hosts, arguments.ca_file),
        latency_s=arguments.latency_ms / 1000,
        record=False,
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await runtime.start()
    say(f"listening on {arguments.socket}")
    await stopping.wait()
    await runtime.stop(STOP_GRACE_S)


def main(argv: Sequence[str]) -> None:
    """Runs a stand-in until SIGTERM or SIGINT; says on standard output when it listens."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_arguments(argv), lambda text: print(text, flush=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
