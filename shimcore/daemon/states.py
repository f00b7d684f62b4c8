"""What the shim knows, as messages of `admin.proto`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import yaml

from shimcore.config import Config, masked
from shimcore.config.provenance import sources, values
from shimcore.config.state import StateError
from shimcore.pb import admin_pb2

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from shimcore.daemon.generation import Generation
    from shimcore.daemon.shim import RuntimeReport, Shim
    from shimcore.images.history import Record
    from shimcore.images.transaction import PullState


def runtime_state(report: RuntimeReport) -> admin_pb2.RuntimeState:
    """What the runtime has said of itself."""
    version = report.version
    return admin_pb2.RuntimeState(
        socket=report.socket,
        name=version.name if version else "",
        version=version.version if version else "",
        api_version=version.api_version if version else "",
        ready=report.ready,
        detail=report.detail,
    )


def cache_state(generation: Generation) -> admin_pb2.CacheState:
    """How the memory of images is used."""
    stats = generation.images.stats()
    return admin_pb2.CacheState(
        entries=stats["entries"], hits=stats["hits"], misses=stats["misses"]
    )


def pull_state(pull: PullState) -> admin_pb2.PullState:
    """A pull that is under way."""
    state = admin_pb2.PullState(
        image=pull.image,
        registry=pull.registry,
        bytes=pull.bytes,
        total_bytes=pull.total,
        layers=pull.layers,
        total_layers=pull.total_layers,
    )
    _set(state.started_at, pull.started_at)
    return state


def registry_states(generation: Generation) -> list[admin_pb2.RegistryState]:
    """Every registry of the configuration in force, in the order of priority."""
    health, now = generation.registries.health(), time.time()
    states = []
    for registry in generation.config.registries:
        known = health[registry.host]
        state = admin_pb2.RegistryState(
            address=registry.address,
            state=known.state.value,
            usable=known.state.usable,
            retry_in_s=known.retry_in_s,
            reason=known.reason,
        )
        _set(state.since, now - known.for_s)
        states.append(state)
    return states


def image_call(number: int, record: Record) -> admin_pb2.ImageCall:
    """An image call that has ended."""
    call = admin_pb2.ImageCall(
        number=number,
        call=record.call,
        image=record.image,
        pod=record.pod,
        outcome=record.ending.value,
        grpc_code=record.code,
        registry=record.registry,
        bytes=record.bytes,
        seconds=record.seconds,
        reason=record.reason,
        attempts=[
            admin_pb2.RegistryAttempt(
                registry=one.host,
                outcome=one.result.value,
                detail=one.detail,
                bytes=one.bytes,
                seconds=one.seconds,
            )
            for one in record.attempts
        ],
    )
    _set(call.started_at, record.at)
    return call


def failed_pull(shim: Shim) -> admin_pb2.ImageCall | None:
    """The pull that failed last, unless its image has been pulled since."""
    record = shim.generations.history.failed_pull
    return None if record is None else image_call(0, record)


def config_state(shim: Shim) -> admin_pb2.ConfigState:
    """The configuration in force."""
    state = admin_pb2.ConfigState(
        file=shim.config_file,
        valid=not shim.config_fault,
        error=shim.config_fault,
        sources=sources(shim.config),
        kubernetes=_kubernetes_state(shim),
        unused_logins=map(str, shim.config.lone_logins),
    )
    _set(state.loaded_at, shim.loaded_at)
    return state


def shown_config(config: Config) -> admin_pb2.ShowConfigResponse:
    """A configuration as text; that takes time, where it has many registries."""
    text = yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True)
    found = [
        admin_pb2.ConfigValue(key=value.key, value=value.text, origin=value.origin)
        for value in values(config)
    ]
    return admin_pb2.ShowConfigResponse(yaml=text, values=found)


def _kubernetes_state(shim: Shim) -> admin_pb2.KubernetesState | None:
    cluster = shim.cluster
    if cluster.follower is None:
        return None
    status = cluster.follower.status
    state = admin_pb2.KubernetesState(
        state=status.condition.value, detail=status.detail, error=cluster.fault
    )
    _set(state.since, status.since)
    if cluster.kept_at:
        _set(state.kept_at, cluster.kept_at)
    return state


def _set(field: Timestamp, seconds: float) -> None:
    """Seconds since 1970, as protobuf has them."""
    field.FromNanoseconds(int(seconds * 1e9))


async def older_processes(shim: Shim) -> admin_pb2.StatusResponse:
    """Those that have handed over and finish their calls, or why they are not known."""
    try:
        others = await shim.generations.journals.others()
    except StateError as error:
        return admin_pb2.StatusResponse(older_unknown=str(error))
    older = [
        admin_pb2.OlderProcess(pid=one.pid, version=one.version, calls=one.calls) for one in others
    ]
    return admin_pb2.StatusResponse(older=older)
