"""A stand-in for a container runtime: CRI and containerd's image store on a unix socket.

For the `demo` command, for tests and for benchmarks; it pulls for real, but runs nothing.
`python -m shimcore.demo.runtime --socket PATH` runs one as a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

import grpc
import grpc.aio

from shimcore.demo.runtime_content import SERVICE as CONTENT
from shimcore.demo.runtime_content import ContentMethods, ContentTable
from shimcore.demo.runtime_cri import CriMethods, CriState
from shimcore.demo.runtime_faults import StatusError
from shimcore.demo.runtime_images import ImageTable, PulledImage
from shimcore.demo.runtime_pull import Puller, RegistryPuller, pull_out_of_thin_air
from shimcore.demo.runtime_rpc import (
    Journal,
    Metadata,
    Method,
    RecordedCall,
    Unary,
    chat_method,
    counted,
    echo,
    streaming_method,
    unary_method,
)
from shimcore.demo.runtime_store import StoreMethods
from shimcore.pb import cri_pb2

__all__ = [
    "PulledImage",
    "Puller",
    "RecordedCall",
    "RegistryPuller",
    "StandInRuntime",
    "StatusError",
    "pull_out_of_thin_air",
]

API_VERSIONS = ("runtime.v1", "runtime.v1alpha2")
READ = CONTENT + "Read"

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


class StandInRuntime(grpc.GenericRpcHandler):
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
        self.table = ImageTable()
        pulls = puller or RegistryPuller()
        self.content = pulls.content if isinstance(pulls, RegistryPuller) else ContentTable()
        self.state = CriState(self.table, pulls)
        self.overrides: dict[str, Unary] = {}
        self._journal = Journal(enabled=record, latency_s=latency_s)
        self._handlers: dict[str, Unary] = {}
        for api in versions:
            self._handlers |= CriMethods(api, self.state).handlers()
        if image_store:
            self._handlers |= StoreMethods(self.table).handlers()
            self._handlers |= ContentMethods(self.content).handlers()
        self._reads = {READ} if image_store else set()
        self._streams_images = frozenset(f"/{api}.ImageService/StreamImages" for api in versions)
        self._server: grpc.aio.Server | None = None

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
        return self._journal.latency_s

    @latency_s.setter
    def latency_s(self, latency_s: float) -> None:
        self._journal.latency_s = latency_s

    @property
    def calls(self) -> list[RecordedCall]:
        """Every call that arrived, oldest first; may be cleared."""
        return self._journal.calls

    @property
    def cancelled(self) -> list[str]:
        """The paths of the calls that the client gave up, oldest first; may be cleared."""
        return self._journal.cancelled

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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops at once."""
        await self.stop()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Method:
        """The handler for a call's path (grpc.GenericRpcHandler)."""
        path = handler_call_details.method
        metadata: Metadata = tuple(handler_call_details.invocation_metadata)
        handler = self._override(path) or self._handlers.get(path)
        if handler is not None:
            return unary_method(path, metadata, self._journal, handler)
        if path in self._streams_images:
            return streaming_method(path, metadata, self._journal, self._stream_images)
        if path in self._reads:
            return streaming_method(path, metadata, self._journal, self._read)
        if path.endswith("/Stream"):
            return streaming_method(path, metadata, self._journal, counted)
        if path.endswith("/Chat"):
            return chat_method(path, metadata, self._journal)
        found = echo if path.endswith("/Echo") else None
        return unary_method(path, metadata, self._journal, found)

    def _override(self, path: str) -> Unary | None:
        """The override for `path` or for what is after its package (`ImageService/PullImage`)."""
        return self.overrides.get(path) or self.overrides.get(path.rpartition(".")[2])

    async def _read(self, request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
        del metadata
        yield ContentMethods(self.content).read(request)

    async def _stream_images(self, request: bytes, metadata: Metadata) -> AsyncIterator[bytes]:
        del metadata
        name = cri_pb2.StreamImagesRequest.FromString(request).filter.image.image
        for image in self.table.listed(name):
            yield cri_pb2.StreamImagesResponse(images=[image]).SerializeToString()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("shimcore.demo.runtime", description=__doc__)
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
    runtime = StandInRuntime(
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
