"""Asks the running shim over its admin socket: the other end of `admin`."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shimcore.config import load
from shimcore.config.document import read_document
from shimcore.config.origins import Value
from shimcore.errors import AdminError, ConfigError
from shimcore.systemd.bypass import SIGN

DEFAULT_SOCKET = "/var/run/image-cri-shim.sock"
ANSWER_S = 5.0


class Condition(StrEnum):
    """How the service is, as an operator needs to know it."""

    SERVING = "serving"
    DEGRADED = "degraded"
    BYPASS = "bypass"
    NOT_RUNNING = "not running"


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of `status`: `facts` has the fixed keys of its JSON, `detail` says why."""

    condition: Condition
    facts: dict[str, Any]
    detail: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Place:
    """Where the shim of a configuration file is found; `fault` when the file is unusable."""

    file: str
    shim_socket: str
    admin_socket: str
    fault: str = ""


def place_of(file: str) -> Place:
    """The sockets that the configuration names, as far as it can be read."""
    try:
        config = load(file)
    except ConfigError as error:
        shim, admin = _named_sockets(file)
        fault = "; ".join(str(one) for one in error.faults)
        return Place(file, shim, admin, fault)
    return Place(file, config.shim_socket, config.admin_socket)


def _named_sockets(file: str) -> tuple[str, str]:
    """`shim` and `admin` of a file that has other faults; the defaults where it says nothing."""
    try:
        with open(file, encoding="utf-8") as opened:
            tree, _ = read_document(opened.read())
    except (OSError, UnicodeDecodeError):
        tree = None
    named = tree if isinstance(tree, dict) else {}
    shim = named.get("shim")
    shim = shim.removeprefix("unix://") if isinstance(shim, str) and shim else DEFAULT_SOCKET
    admin = named.get("admin")
    if isinstance(admin, str) and admin:
        return shim, admin.removeprefix("unix://")
    return shim, f"{shim}.admin"


def status(place: Place, *, timeout_s: float = ANSWER_S) -> Status:
    """How the shim at `place` is. Raises AdminError where that cannot be found out."""
    problem = _knock(place.admin_socket)
    if problem and os.path.isdir(SIGN) and not _knock(place.shim_socket, "socket"):
        why = "the shim does not start; its socket goes to the runtime as it is (onFailure)"
        return Status(Condition.BYPASS, _nothing(place), (why,))
    if problem:
        return Status(Condition.NOT_RUNNING, _nothing(place), (problem,))
    try:
        answer = _ask(place.admin_socket, "Status", timeout_s)
    except AdminError as error:
        return Status(Condition.DEGRADED, _nothing(place), (str(error),))
    facts = _facts(answer)
    detail = []
    if not facts["serving"]:
        detail.append("the shim is stopping: running calls may end, new ones are refused")
    if not facts["runtime"]["ready"]:
        detail.append(f"the runtime is not ready: {answer.runtime.detail}")
    if not facts["config"]["valid"]:
        detail.append(
            f"{answer.config.file} cannot be used, an older configuration is in force: "
            f"{answer.config.error}"
        )
    detail += _kubernetes_details(facts["config"].get("kubernetes"))
    if facts["config"]["valid"] and place.fault:
        detail.append(f"{place.file} cannot be used: {place.fault}")
    return Status(Condition.DEGRADED if detail else Condition.SERVING, facts, tuple(detail))


def _kubernetes_details(state: dict[str, Any] | None) -> list[str]:
    """What an operator has to know of the cluster's part, if it is not as it should be."""
    if state is None:
        return []
    details = []
    if state["error"]:
        details.append(
            f"what the cluster says cannot be used, what it said before stays: {state['error']}"
        )
    if state["detail"]:
        details.append(f"Kubernetes is {state['state']}: {state['detail']}")
    return details


def _knock(path: str, what: str = "admin socket") -> str:
    """Why nobody is at a socket; empty when somebody listens.

    Raises AdminError where this user may not know.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except PermissionError as error:
            raise AdminError(f"{what} {path}: permission denied; run this as root") from error
        except OSError as error:
            if error.errno == errno.ENOENT:
                return f"nothing listens at {path}: there is no such socket"
            if error.errno == errno.ECONNREFUSED:
                return f"nothing listens at {path}: a shim that served it has died"
            if error.errno in {errno.EAGAIN, errno.ETIMEDOUT} or isinstance(error, TimeoutError):
                return ""  # its queue is full: somebody is there and does not accept
            raise AdminError(f"{what} {path}: {error.strerror or error}") from error
    return ""


def _ask(path: str, method: str, timeout_s: float) -> Any:
    """The answer to an empty request. Raises AdminError."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc  # noqa: PLC0415 - slow to import, and not needed where nobody is at home

    from shimcore.pb import admin_pb2  # noqa: PLC0415

    request = getattr(admin_pb2, f"{method}Request")()
    answer = getattr(admin_pb2, f"{method}Response")
    with grpc.insecure_channel(
        f"unix:{path}", options=(("grpc.default_authority", "localhost"),)
    ) as channel:
        call: Any = channel.unary_unary(
            f"/imagecrishim.admin.v1.Admin/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"no answer within {timeout_s:g} s: the shim hangs or is stopped"
            else:
                text = f"{error.code().name.lower()}: {error.details()}"
            raise AdminError(f"admin socket {path}: {text}") from error


@dataclass(frozen=True, slots=True)
class Shown:
    """A configuration in force: its state, itself as YAML (no secrets), each value's origin."""

    state: dict[str, Any]
    yaml: str
    values: tuple[Value, ...]


def show_config(place: Place, *, timeout_s: float = ANSWER_S) -> Shown | None:
    """The configuration that the running shim has; None without one. Raises AdminError."""
    if _knock(place.admin_socket):
        return None
    answer = _ask(place.admin_socket, "ShowConfig", timeout_s)
    values = tuple(Value(one.key, one.value, one.origin) for one in answer.values)
    return Shown(_config_facts(answer.config), answer.yaml, values)


def _facts(answer: Any) -> dict[str, Any]:
    runtime, cache = answer.runtime, answer.cache
    return {
        "serving": answer.serving,
        "shim_socket": answer.shim_socket,
        "runtime": {
            "socket": runtime.socket,
            "name": runtime.name,
            "version": runtime.version,
            "api_version": runtime.api_version,
            "ready": runtime.ready,
        },
        "config": _without_cluster(_config_facts(answer.config)),
        "cache": {"entries": cache.entries, "hits": cache.hits, "misses": cache.misses},
        "registries": [
            {"address": registry.address, "state": registry.state} for registry in answer.registries
        ],
        "calls": answer.calls,
        "pulls": [_pull(pull) for pull in answer.pulls],
    }


def _pull(pull: Any) -> dict[str, Any]:
    return {
        "image": pull.image,
        "registry": pull.registry or None,
        "bytes": pull.bytes,
        "total_bytes": pull.total_bytes or None,
        "started_at": _time(pull.started_at.ToSeconds()),
    }


def _without_cluster(config: dict[str, Any]) -> dict[str, Any]:
    """The fixed keys alone, unless the cluster has a part in the configuration."""
    if config["kubernetes"] is not None:
        return config
    return {key: config[key] for key in ("file", "loaded_at", "valid", "error")}


def _config_facts(config: Any) -> dict[str, Any]:
    return {
        "file": config.file,
        "loaded_at": _time(config.loaded_at.ToSeconds()),
        "valid": config.valid,
        "error": config.error or None,
        "sources": list(config.sources),
        "kubernetes": _kubernetes(config) if config.HasField("kubernetes") else None,
    }


def _kubernetes(config: Any) -> dict[str, Any]:
    state = config.kubernetes
    kept = _time(state.kept_at.ToSeconds()) if state.HasField("kept_at") else None
    return {
        "state": state.state,
        "since": _time(state.since.ToSeconds()),
        "detail": state.detail or None,
        "error": state.error or None,
        "kept_at": kept,
    }


def _nothing(place: Place) -> dict[str, Any]:
    """The same keys where no shim has answered."""
    return {
        "serving": False,
        "shim_socket": place.shim_socket,
        "runtime": {
            "socket": None,
            "name": None,
            "version": None,
            "api_version": None,
            "ready": False,
        },
        "config": {
            "file": place.file,
            "loaded_at": None,
            "valid": not place.fault,
            "error": place.fault or None,
        },
        "cache": {"entries": 0, "hits": 0, "misses": 0},
        "registries": [],
        "calls": 0,
        "pulls": [],
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
