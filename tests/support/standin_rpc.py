"""How the stand-in's methods are served over grpc.aio, and the record of what arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from shimcore.errors import ShimError
from shimcore.runtime.errors import StatusCode

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Method: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Metadata = tuple[tuple[str, str | bytes], ...]

Unary = Callable[[bytes], Awaitable[bytes]]

_GRPC_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class StatusError(ShimError):
    """A status that a method answers with; `trailers` are sent along as trailing metadata."""

    def __init__(
        self, code: int, details: str, trailers: tuple[tuple[str, str | bytes], ...] = ()
    ) -> None:
        super().__init__(f"{StatusCode(code).name}: {details}")
        self.code = StatusCode(code)
        self.details = details
        self.trailers = trailers


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call as it arrived; requests carry credentials, so `repr` leaves them out.

    `request` is the message as it was on the wire, of a stream of requests the first one.
    """

    method: str
    request: bytes = field(repr=False)
    metadata: Metadata = field(repr=False)


class Journal:
    """Every call that arrived, oldest first, and the paths of those that the client gave up.

    May be off, and may hold answers back.
    """

    def __init__(self, *, enabled: bool, latency_s: float) -> None:
        self.calls: list[RecordedCall] = []
        self.enabled = enabled
        self.latency_s = latency_s
        self.cancelled: list[str] = []

    def arrived(self, path: str, request: bytes, metadata: Metadata) -> None:
        """Adds a call, unless the journal is off."""
        if self.enabled:
            self.calls.append(RecordedCall(path, request, metadata))

    @asynccontextmanager
    async def answering(self, path: str, context: Context) -> AsyncIterator[None]:
        """Holds the answer to `path` back for the latency; faults of it become statuses."""
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            yield
        except StatusError as fault:
            await context.abort(_GRPC_STATUS[int(fault.code)], fault.details, fault.trailers)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INTERNAL, f"cannot parse the request: {error}")
        except asyncio.CancelledError:
            self.cancelled.append(path)
            raise


def unary_method(path: str, metadata: Metadata, journal: Journal, handler: Unary | None) -> Method:
    """A method of one request and one response; without a handler UNIMPLEMENTED."""

    async def behaviour(request: bytes, context: Context) -> bytes:
        journal.arrived(path, request, metadata)
        async with journal.answering(path, context):
            if handler is None:
                raise StatusError(StatusCode.UNIMPLEMENTED, f"unknown method {path}")
            return await handler(request)
        raise AssertionError  # `answering` swallows nothing

    return grpc.unary_unary_rpc_method_handler(behaviour)
