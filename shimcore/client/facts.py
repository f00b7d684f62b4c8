"""The shim's answers with the fixed keys of the JSON that commands print."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shimcore.systemd.kubelet_way import KubeletWay


def status_facts(answer: Any, kubelet: KubeletWay) -> dict[str, Any]:
    """Of `status`."""
    runtime, cache = answer.runtime, answer.cache
    return {
        "serving": answer.serving,
        "starting": answer.starting or None,
        "shim_socket": answer.shim_socket,
        "runtime": {
            "socket": runtime.socket or None,
            "name": runtime.name or None,
            "version": runtime.version or None,
            "api_version": runtime.api_version or None,
            "ready": runtime.ready,
        },
        "config": _without_cluster(config_facts(answer.config)),
        "cache": {"entries": cache.entries, "hits": cache.hits, "misses": cache.misses},
        "registries": [_registry(registry) for registry in answer.registries],
        "kubelet": _kubelet(kubelet),
        "calls": answer.calls,
        "pulls": [pull_facts(pull) for pull in answer.pulls],
        "last_failed_pull": (
            call_facts(answer.last_failed_pull) if answer.HasField("last_failed_pull") else None
        ),
        "older_processes": [
            {"pid": one.pid, "version": one.version, "calls": one.calls} for one in answer.older
        ],
        "older_unknown": answer.older_unknown or None,
        "unkept": list(answer.unkept),
    }


def nothing(file: str, fault: str, shim_socket: str, kubelet: KubeletWay) -> dict[str, Any]:
    """The same keys where no shim has answered."""
    from shimcore.pb import admin_pb2  # noqa: PLC0415 - slow to import

    config = admin_pb2.ConfigState(file=file, valid=not fault, error=fault)
    unknown = admin_pb2.StatusResponse(shim_socket=shim_socket, config=config)
    return status_facts(unknown, kubelet)


def config_facts(config: Any) -> dict[str, Any]:
    """Of the configuration in force."""
    return {
        "file": config.file,
        "loaded_at": _time(config.loaded_at) if config.HasField("loaded_at") else None,
        "valid": config.valid,
        "error": config.error or None,
        "sources": list(config.sources),
        "kubernetes": _kubernetes(config) if config.HasField("kubernetes") else None,
    }


def pull_facts(pull: Any) -> dict[str, Any]:
    """Of a pull that is under way."""
    return {
        "image": pull.image,
        "registry": pull.registry or None,
        "bytes": pull.bytes,
        "total_bytes": pull.total_bytes or None,
        "layers": pull.layers,
        "total_layers": pull.total_layers or None,
        "started_at": _time(pull.started_at),
    }


def call_facts(call: Any) -> dict[str, Any]:
    """Of an image call that has ended."""
    return {
        "time": _time(call.started_at),
        "call": call.call,
        "image": call.image,
        "pod": call.pod or None,
        "outcome": call.outcome,
        "code": call.grpc_code,
        "registry": call.registry or None,
        "bytes": call.bytes,
        "seconds": round(call.seconds, 3),
        "reason": call.reason or None,
        "registries": [
            {
                "registry": one.registry,
                "outcome": one.outcome,
                "detail": one.detail or None,
                "bytes": one.bytes,
                "seconds": round(one.seconds, 3),
            }
            for one in call.attempts
        ],
    }


def _registry(registry: Any) -> dict[str, Any]:
    return {
        "address": registry.address,
        "state": registry.state,
        "usable": registry.usable,
        "since": _time(registry.since),
        "retry_in_s": round(registry.retry_in_s, 1) if registry.HasField("retry_in_s") else None,
        "reason": registry.reason or None,
    }


def _kubelet(found: KubeletWay) -> dict[str, Any]:
    return {
        "state": found.way.value,
        "endpoint": found.endpoint,
        "running": found.running,
        "detail": found.detail or None,
    }


def _without_cluster(config: dict[str, Any]) -> dict[str, Any]:
    """The fixed keys alone, unless the cluster has a part in the configuration."""
    if config["kubernetes"] is not None:
        return config
    return {key: config[key] for key in ("file", "loaded_at", "valid", "error")}


def _kubernetes(config: Any) -> dict[str, Any]:
    state = config.kubernetes
    return {
        "state": state.state,
        "since": _time(state.since),
        "detail": state.detail or None,
        "error": state.error or None,
        "kept_at": _time(state.kept_at) if state.HasField("kept_at") else None,
    }


def _time(stamp: Any) -> str:
    text = datetime.fromtimestamp(stamp.ToSeconds(), UTC).isoformat()
    return text.replace("+00:00", "Z")
