"""One gRPC channel to the runtime's socket: bytes in, bytes out, errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import grpc
import grpc.aio

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.errors import ForbiddenRuntimeError, RuntimeCallError, StatusCode
from shimcore.unixsocket import is_forbidden

Metadata = tuple[tuple[str, str | bytes], ...]

MESSAGE_LIMIT_BYTES = 16 << 20
"""kubelet's own limit both ways (`maxMsgSize` of its remote runtime)."""

METADATA_LIMIT_BYTES = 1 << 20
"""Room for an error text of a runtime, which travels as a trailer."""

OPTIONS: tuple[tuple[str, int | str], ...] = (
    # For a unix socket grpc would send the path, which HTTP/2 servers may refuse.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # Channels made one after another must not share a connection, nor its backoff.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

SETTLING_STEPS = 5
SETTLING_STEP_S = 0.01
"""Of 960 calls under way when a runtime was killed, 257 ended before the state changed."""


@dataclass(slots=True, eq=False)
class _Line:
    """A grpc channel and the number of calls on it; closed when retired and idle."""

    channel: grpc.aio.Channel
    calls: int = 0
    retired: bool = False

    @property
    def state(self) -> grpc.ChannelConnectivity:
        return self.channel.get_state()

    @property
    def connected(self) -> bool:
        return self.state is grpc.ChannelConnectivity.READY


class Channel:
    """Unary calls over the unix socket `socket` (a path).

    `generation` is a number that changes whenever the runtime behind the socket may have
    become another one: what was learned under an older generation is to be forgotten.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.generation = 0
        self._target = "unix:" + quote(socket)
        self._line = self._open()
        self._closed = False

    async def call(
        self, path: str, request: bytes, *, timeout_s: float | None, metadata: Metadata = ()
    ) -> bytes:
        """The serialized response of the method at `path`.

        Raises RuntimeCallError for a status that the runtime sent, RuntimeUnavailableError
        when it cannot be reached. Cancelling the task cancels the call.
        """
        async with self._calling() as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                path, request_serializer=None, response_deserializer=None
            )
            return await method(request, timeout=timeout_s, metadata=metadata)

    async def stream(
        self,
        path: str,
        request: bytes,
        *,
        timeout_s: float | None,
        limit_bytes: int,
        metadata: Metadata = (),
    ) -> list[bytes]:
        """The serialized messages that the method at `path` answers; errors as for `call`.

        More than `limit_bytes` of them end the call: RuntimeCallError, OUT_OF_RANGE.
        """
        messages: list[bytes] = []
        async with self._calling() as channel:
            method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
                path, request_serializer=None, response_deserializer=None
            )
            call = method(request, timeout=timeout_s, metadata=metadata)
            left = limit_bytes
            async for message in call:
                left -= len(message)
                if left < 0:
                    call.cancel()
                    why = f"an answer of over {limit_bytes} bytes"
                    raise RuntimeCallError(StatusCode.OUT_OF_RANGE, why)
                messages.append(message)
        return messages

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[grpc.aio.Channel]:
        """A grpc channel for one call, whose errors become ours."""
        line = await self._usable_line()
        line.calls += 1
        try:
            yield line.channel
        except grpc.aio.AioRpcError as error:
            raise await self._converted(error, line) from error
        except grpc.aio.UsageError as error:
            raise self._unavailable("the client was closed") from error
        except asyncio.CancelledError:
            if self._closed and not _being_cancelled():
                raise self._unavailable("the client was closed") from None
            raise
        finally:
            line.calls -= 1
            if line.retired and not line.calls:
                await line.channel.close()

    async def current_generation(self) -> int:
        """`generation` after a look at the connection, which may have been lost unseen."""
        await self._usable_line()
        return self.generation

    async def aclose(self) -> None:
        """Ends calls under way with RuntimeUnavailableError, and closes the connection."""
        self._closed = True
        await self._line.channel.close()

    def _open(self) -> _Line:
        return _Line(grpc.aio.insecure_channel(self._target, options=OPTIONS))

    async def _usable_line(self) -> _Line:
        """A line that will try at once: after a failed attempt grpc would first wait.

        Anything but a ready connection means a new one, perhaps to another runtime.
        """
        if self._closed:
            raise self._unavailable("the client is closed")
        line = self._line
        state = line.state
        if state is grpc.ChannelConnectivity.READY:
            return line
        self.generation += 1
        if state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return line
        self._line = self._open()
        line.retired = True
        if not line.calls:
            await line.channel.close()
        return self._line

    async def _converted(
        self, error: grpc.aio.AioRpcError, line: _Line
    ) -> RuntimeCallError | RuntimeUnavailableError:
        """Our error for `error`.

        UNAVAILABLE over a connection that still stands is the runtime's own word (a
        registry is down, say); over one that does not, it is grpc's about the runtime.
        """
        code = StatusCode(error.code().value[0])
        details = error.details() or ""
        if code is StatusCode.DEADLINE_EXCEEDED and not line.connected:
            return self._unavailable(details)
        if code is StatusCode.UNAVAILABLE:
            self.generation += 1
            if not await _stands(line):
                return self._unavailable(details)
        return RuntimeCallError(int(code), details)

    def _unavailable(self, why: str) -> RuntimeUnavailableError:
        if is_forbidden(self.socket):
            return ForbiddenRuntimeError(self.socket)
        return RuntimeUnavailableError(
            f"the container runtime does not answer at {self.socket} ({why});"
            " see that it runs, and that `cri:` in the configuration names its socket"
        )


async def _stands(line: _Line) -> bool:
    """Whether `line` is still connected; a loss shows in its state just after in its calls."""
    for _ in range(SETTLING_STEPS):
        if not line.connected:
            return False
        await asyncio.sleep(SETTLING_STEP_S)
    return True


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
