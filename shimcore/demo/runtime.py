"""A stand-in for a container runtime: CRI and containerd's image store on a unix socket.

It pulls for real, but runs nothing.
"""

from __future__ import annotations

import os
from typing import Self
from urllib.parse import quote

import grpc
import grpc.aio

from shimcore.demo.runtime_cri import CriMethods, CriState
from shimcore.demo.runtime_images import ImageTable
from shimcore.demo.runtime_pull import pull
from shimcore.demo.runtime_rpc import (
    Journal,
    Metadata,
    Method,
    RecordedCall,
    Unary,
    unary_method,
)
from shimcore.demo.runtime_store import StoreMethods

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    # grpc would cancel what comes when a thousand calls wait; runtimes in Go take them all.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


class StandInRuntime(grpc.GenericRpcHandler):
    """A runtime at `socket_path`, between `start` and `stop`; may be started again.

    It answers CRI and the image store; all else is UNIMPLEMENTED.
    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = os.path.abspath(socket_path)
        self.table = ImageTable()
        self.journal = Journal()
        self.handlers: dict[str, Unary] = {
            **CriMethods("runtime.v1", CriState(self.table, pull)).handlers(),
            **StoreMethods(self.table).handlers(),
        }
        self._server: grpc.aio.Server | None = None

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

    def method(self, path: str, metadata: Metadata) -> Method:
        """The handler for a path."""
        return unary_method(path, metadata, self.journal, self.handlers.get(path))
