"""A runtime with calls that no proto of the project names: streams, metadata, status details."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from . import wire

VERSION = wire.encode({1: "0.1.0", 2: "foreign", 3: "9", 4: "v1"})
READY = wire.encode({1: {1: [{1: "RuntimeReady", 2: 1}, {1: "NetworkReady", 2: 1}]}})
DETAILS = b"\x08\x08\x12\x04full"
EVENTS = 80
EVENT_GAP_S = 0.1


def _version(request: bytes, context: grpc.ServicerContext) -> bytes:
    return VERSION


def _status(request: bytes, context: grpc.ServicerContext) -> bytes:
    return READY


def _events(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """EVENTS messages, EVENT_GAP_S apart."""
    for number in range(EVENTS):
        yield wire.encode({1: f"container-{number}"})
        time.sleep(EVENT_GAP_S)


def _watch(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """The client's metadata back as initial metadata, three messages, then a full status."""
    asked = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-asked", str(asked.get("x-ask"))),))
    for size in (0, 1, 300_000):
        yield request * size
    context.set_trailing_metadata((("grpc-status-details-bin", DETAILS), ("x-end", "yes")))
    context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
    context.set_details("it is full: 100 % — of “everything”")


def _echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def _until_cancelled(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    number = 0
    while context.is_active():
        yield wire.encode({1: number})
        number += 1
        time.sleep(0.02)


class ForeignRuntime(grpc.GenericRpcHandler):
    """A gRPC server on a Unix socket, in this process."""

    def __init__(self, socket: Path) -> None:
        self.ended_streams = 0
        self._methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "/runtime.v1.RuntimeService/Version": grpc.unary_unary_rpc_method_handler(_version),
            "/runtime.v1.RuntimeService/Status": grpc.unary_unary_rpc_method_handler(_status),
            "/runtime.v1.RuntimeService/GetContainerEvents": grpc.unary_stream_rpc_method_handler(
                _events
            ),
            "/oracle.v9.Oracle/Watch": grpc.unary_stream_rpc_method_handler(_watch),
            "/oracle.v9.Oracle/Echo": grpc.stream_stream_rpc_method_handler(_echo),
            "/oracle.v9.Oracle/Forever": grpc.unary_stream_rpc_method_handler(
                self._counted(_until_cancelled)
            ),
        }
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def _counted(
        self, stream: Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]
    ) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        def counted(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                yield from stream(request, context)
            finally:
                self.ended_streams += 1

        return counted

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._methods.get(handler_call_details.method)

    def close(self) -> None:
        self._server.stop(None).wait(5)
