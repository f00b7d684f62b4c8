"""The shim's own service on the admin socket: state, history, reload, configuration, health."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from shimcore import __version__
from shimcore.config import Config
from shimcore.daemon import states
from shimcore.daemon.handover import (
    CannotHandOverError,
    HandOver,
    HandOverError,
    NobodyServesError,
    Successor,
)
from shimcore.daemon.preload import PreloadError, preload
from shimcore.daemon.shim import Shim
from shimcore.daemon.sockets import ListeningSocket
from shimcore.errors import ShimError
from shimcore.pb import admin_pb2
from shimcore.threads import in_thread

SERVICE = "imagecrishim.admin.v1.Admin"
_STOP_S = 0.5


class AdminServer:
    """Serves `protos/admin.proto` and grpc.health.v1.Health on a socket of mode 0600.

    Until there is a shim to `show`, `Status` says what is waited for, and other calls end
    FAILED_PRECONDITION. `config` and `path` are those of this start.
    """

    def __init__(self, socket: ListeningSocket, path: str, config: Config) -> None:
        self._shim: Shim | None = None
        self._path = path
        self._config = config
        self._socket = socket
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._health = health.HealthServicer()
        self._serving = True
        self._hand_over: HandOver  # it comes with the shim
        self._handing_over: asyncio.Future[Successor] | None = None
        self.waiting_why = ""
        """Why the start has to wait for the runtime, as far as it is known."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        handlers = {
            "Status": _unary(self._status, admin_pb2.StatusRequest),
            "Pulls": self._of_shim(self._pulls, admin_pb2.PullsRequest),
            "History": self._of_shim(self._history, admin_pb2.HistoryRequest),
            "Reload": self._of_shim(self._reload, admin_pb2.ReloadRequest),
            "ShowConfig": self._of_shim(self._show_config, admin_pb2.ShowConfigRequest),
            "Prepare": _unary(self._prepare, admin_pb2.PrepareRequest),
            "HandOver": self._of_shim(self._handed_over, admin_pb2.HandOverRequest),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))

    async def start(self) -> None:
        """Listen, restricted from the first moment on. Raises ShimError."""
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._socket.path}")
        except RuntimeError as error:  # grpc says no more than that it cannot
            raise ShimError(
                f"admin socket {self._socket.path}: it cannot be made; is the directory writable, "
                "with space and inodes left (df -i)?"
            ) from error
        finally:
            os.umask(before)
        self._socket.adopt()
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def show(self, shim: Shim, hand_over: HandOver) -> None:
        """From here on it tells of this shim, which serves, and can be handed over."""
        self._shim = shim
        self._hand_over = hand_over
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def draining(self) -> None:
        """From here on the shim is reported as stopping."""
        self._serving = False

    async def stop(self, grace_s: float = _STOP_S) -> None:
        """Close the socket at once; calls get `grace_s` seconds to end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _set_health(self, state: Any) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, state)

    @property
    def _starting(self) -> str:
        return f"waiting for {self._config.runtime_socket or 'a container runtime'}"

    def _of_shim(
        self, call: Callable[[Shim, Any], Awaitable[Message]], request: type[Message]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call that tells of a shim that serves."""

        async def handle(message: Message, context: Any) -> Message:
            if self._shim is None:
                text = f"starting: {self._starting}"
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
                raise AssertionError("abort raises")
            return await call(self._shim, message)

        return _unary(handle, request)

    async def _status(self, _request: Message, _context: Any) -> Message:
        shim = self._shim
        if shim is None:
            return admin_pb2.StatusResponse(
                shim_socket=self._config.shim_socket,
                starting=self._starting,
                runtime=admin_pb2.RuntimeState(
                    socket=self._config.runtime_socket or "", detail=self.waiting_why
                ),
                config=admin_pb2.ConfigState(file=self._path, valid=True),
                shim_version=__version__,
            )
        generation = shim.generations.current
        report, older, _ = await asyncio.gather(
            shim.runtime_report(), states.older_processes(shim), generation.registries.look()
        )
        calls = shim.relay.calls
        answer = admin_pb2.StatusResponse(
            serving=self._serving,
            shim_socket=shim.socket,
            runtime=states.runtime_state(report),
            config=states.config_state(shim),
            cache=states.cache_state(generation),
            registries=states.registry_states(generation),
            calls=sum(calls.values()),
            calls_by_method={path.decode(errors="replace"): count for path, count in calls.items()},
            shim_version=__version__,
            pulls=map(states.pull_state, shim.generations.pulls()),
            last_failed_pull=states.failed_pull(shim),
            unkept=shim.unkept,
        )
        answer.MergeFrom(older)
        answer.started_at.FromNanoseconds(int(shim.started_at * 1e9))
        return answer

    async def _pulls(self, shim: Shim, _request: Message) -> Message:
        return admin_pb2.PullsResponse(pulls=map(states.pull_state, shim.generations.pulls()))

    async def _history(self, shim: Shim, request: Any) -> Message:
        history = shim.generations.history
        return admin_pb2.HistoryResponse(
            calls=[states.image_call(*each) for each in history.since(request.after)],
            last=history.last,
            pulls=map(states.pull_state, shim.generations.pulls()),
            process=f"{os.getpid()} {shim.started_at}",
        )

    async def _reload(self, shim: Shim, _request: Message) -> Message:
        changed = await shim.reload(forced=True)
        return admin_pb2.ReloadResponse(config=states.config_state(shim), changed=changed)

    async def _show_config(self, shim: Shim, _request: Message) -> Message:
        answer = await in_thread(partial(states.shown_config, shim.config))
        answer.config.CopyFrom(states.config_state(shim))
        return answer

    async def _prepare(self, _request: Message, _context: Any) -> Message:
        try:
            # Python's import locks are held a file long; the calls of others go on meanwhile.
            return admin_pb2.PrepareResponse(modules=await in_thread(preload))
        except PreloadError as error:
            return admin_pb2.PrepareResponse(failure=str(error))

    async def _handed_over(self, _shim: Shim, request: Any) -> Message:
        try:
            # To its end, whether the one who asked waits or not.
            self._handing_over = asyncio.ensure_future(self._hand_over(request.command))
            successor = await asyncio.shield(self._handing_over)
        except CannotHandOverError as error:
            return admin_pb2.HandOverResponse(impossible=str(error))
        except HandOverError as error:
            return admin_pb2.HandOverResponse(failure=f"{error}; the process before goes on")
        except NobodyServesError as error:
            return admin_pb2.HandOverResponse(failure=str(error))
        return admin_pb2.HandOverResponse(pid=successor.pid, version=successor.version)


def _unary(
    call: Callable[[Message, Any], Awaitable[Message]], request: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
