"""A stand-in for a container runtime, told what to do: faults, and made-up images.

CRI and containerd's stores on a unix socket. It pulls for real, but runs nothing.

`python -m tests.support.scripted_runtime --socket PATH` runs one as a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self
from urllib.parse import quote

import grpc
import grpc.aio

from shimcore.pb import cri_pb2
from tests.support.registry_puller import RegistryPuller
from tests.support.standin_content import READ, ContentMethods, ContentTable
from tests.support.standin_cri import Puller, ScriptedMethods, ScriptedState
from tests.support.standin_images import PulledImage, ScriptedTable, pullable
from tests.support.standin_rpc import (
    Context,
    Journal,
    Metadata,
    Method,
    RecordedCall,
    Unary,
    unary_method,
)
from tests.support.standin_store import ScriptedStore

API_VERSIONS = ("runtime.v1", "runtime.v1alpha2")

Streaming = Callable[[bytes, Metadata], AsyncIterator[bytes]]

INITIAL_METADATA: Metadata = (("x-stand-in", "hello"), ("x-stand-in-bin", b"\x00\xff"))
TRAILING_METADATA: Metadata = (("x-stand-in-trailer", "bye"), ("x-trailer-bin", b"\xff\x00"))
"""Sent with every stream and echo, for those who test that metadata is kept."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    # grpc would cancel what comes when a thousand calls wait; runtimes in Go take them all.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)

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


class ScriptedRuntime(grpc.GenericRpcHandler):
    """A runtime at `socket_path`, between `start` and `stop`; may be started again.

    Beside CRI (`versions`) and the image store it answers any `/x/Echo` with the request,
    any `/x/Stream` with as many messages as the metadata `count` says (3), and any `/x/Chat`
    with each message of the stream that comes in. All else is UNIMPLEMENTED.

    `puller`, `latency_s`, `state.ready` and `overrides` may be changed at any time; an
    override answers instead of the method that its key names, a full path or `Service/Method`,
    and may raise StatusError, or wait for ever.
    """

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
        self.socket_path = os.path.abspath(socket_path)
        self.table = ScriptedTable()
        pulls = puller or RegistryPuller()
        self.content = pulls.content if isinstance(pulls, RegistryPuller) else ContentTable()
        self.state = ScriptedState(self.table, pulls)
        self.journal = Journal(enabled=record, latency_s=latency_s)
        self.overrides: dict[str, Unary] = {}
        self.handlers: dict[str, Unary] = {
            **ScriptedStore(self.table).handlers(),
            **ContentMethods(self.content).handlers(),
        }
        for api in API_VERSIONS:
            self.handlers |= ScriptedMethods(api, self.state).handlers()
        self._server: grpc.aio.Server | None = None
        self._served = (*(f"/{api}." for api in versions), *(["/containerd."] * image_store))

    @property
    def calls(self) -> list[RecordedCall]:
        """Every call that arrived, oldest first; may be cleared."""
        return self.journal.calls

    def called(self, method: str) -> list[RecordedCall]:
        """The calls whose path ends in `method`, such as `PullImage`, oldest first."""
        return [call for call in self.calls if call.method.endswith("/" + method)]

    async def start(self) -> None:
        """Listens; a socket that a dead runtime left behind is replaced."""
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port("unix:" + quote(self.socket_path))
        await self._server.start()

    async def stop(self, grace_s: float | None = None) -> None:
        """Stops listening, and ends calls under way after `grace_s` (None: at once)."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    async def __aenter__(self) -> Self:
        """The runtime, listening."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops at once."""
        await self.stop()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Method:
        """The handler for a call's path (grpc.GenericRpcHandler)."""
        path = handler_call_details.method
        return self.method(path, tuple(handler_call_details.invocation_metadata))

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
        return unary_method(path, metadata, self.journal, self.handlers.get(path))

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
