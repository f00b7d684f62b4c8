"""The shim's own service on the admin socket: state, reload, configuration, health."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import yaml
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from shimcore import __version__
from shimcore.config import masked
from shimcore.config.origins import sources, values
from shimcore.daemon.shim import Shim
from shimcore.daemon.sockets import ListeningSocket
from shimcore.pb import admin_pb2

SERVICE = "imagecrishim.admin.v1.Admin"
_STOP_S = 0.5


class AdminServer:
    """Serves `protos/admin.proto` and grpc.health.v1.Health on a socket of mode 0600."""

    def __init__(self, shim: Shim, socket: ListeningSocket) -> None:
        self._shim = shim
        self._socket = socket
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._health = health.HealthServicer()
        self._serving = True
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        handlers = {
            "Status": _unary(self._status, admin_pb2.StatusRequest),
            "Pulls": _unary(self._pulls, admin_pb2.PullsRequest),
            "Reload": _unary(self._reload, admin_pb2.ReloadRequest),
            "ShowConfig": _unary(self._show_config, admin_pb2.ShowConfigRequest),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))

    async def start(self) -> None:
        """Listen, restricted from the first moment on."""
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._socket.path}")
        finally:
            os.umask(before)
        self._socket.adopt()
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def draining(self) -> None:
        """From here on the shim is reported as stopping."""
        self._serving = False

    async def stop(self) -> None:
        """Close the socket; calls get half a second to end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(_STOP_S)

    async def _status(self, _request: Message, _context: Any) -> Message:
        shim = self._shim
        report = await shim.runtime_report()
        version = report.version
        images = shim.generations.current.images.stats()
        calls = shim.relay.calls
        answer = admin_pb2.StatusResponse(
            serving=self._serving,
            shim_socket=shim.socket,
            runtime=admin_pb2.RuntimeState(
                socket=report.socket,
                name=version.name if version else "",
                version=version.version if version else "",
                api_version=version.api_version if version else "",
                ready=report.ready,
                detail=report.detail,
            ),
            config=self._config_state(),
            cache=admin_pb2.CacheState(
                entries=images["entries"], hits=images["hits"], misses=images["misses"]
            ),
            registries=self._registry_states(),
            calls=sum(calls.values()),
            calls_by_method={path.decode(errors="replace"): count for path, count in calls.items()},
            shim_version=__version__,
            pulls=self._pull_states(),
        )
        answer.started_at.FromNanoseconds(int(shim.started_at * 1e9))
        return answer

    async def _pulls(self, _request: Message, _context: Any) -> Message:
        return admin_pb2.PullsResponse(pulls=self._pull_states())

    def _pull_states(self) -> list[admin_pb2.PullState]:
        states = []
        for pull in self._shim.generations.pulls():
            state = admin_pb2.PullState(
                image=pull.image,
                registry=pull.registry,
                bytes=pull.bytes,
                total_bytes=pull.total,
            )
            state.started_at.FromNanoseconds(int(pull.started_at * 1e9))
            states.append(state)
        return states

    def _registry_states(self) -> list[admin_pb2.RegistryState]:
        generation = self._shim.generations.current
        states = generation.registries.states()
        return [
            admin_pb2.RegistryState(
                address=registry.address, state=states.get(registry.host, "closed")
            )
            for registry in generation.config.registries
        ]

    def _config_state(self) -> admin_pb2.ConfigState:
        shim = self._shim
        state = admin_pb2.ConfigState(
            file=shim.config_file,
            valid=not shim.config_fault,
            error=shim.config_fault,
            sources=sources(shim.config),
            kubernetes=self._kubernetes_state(),
        )
        state.loaded_at.FromNanoseconds(int(shim.loaded_at * 1e9))
        return state

    def _kubernetes_state(self) -> admin_pb2.KubernetesState | None:
        cluster = self._shim.cluster
        if cluster.follower is None:
            return None
        standing = cluster.follower.standing
        state = admin_pb2.KubernetesState(
            state=standing.condition.value, detail=standing.detail, error=cluster.fault
        )
        state.since.FromNanoseconds(int(standing.since * 1e9))
        if cluster.kept_at:
            state.kept_at.FromNanoseconds(int(cluster.kept_at * 1e9))
        return state

    async def _reload(self, _request: Message, _context: Any) -> Message:
        changed = self._shim.reload(forced=True)
        return admin_pb2.ReloadResponse(config=self._config_state(), changed=changed)

    async def _show_config(self, _request: Message, _context: Any) -> Message:
        config = self._shim.config
        text = yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True)
        found = [
            admin_pb2.ConfigValue(key=value.key, value=value.text, origin=value.origin)
            for value in values(config)
        ]
        return admin_pb2.ShowConfigResponse(yaml=text, values=found, config=self._config_state())


def _unary(
    call: Callable[[Message, Any], Awaitable[Message]], request: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
