"""The container runtime: one socket, its CRI, ready."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence

from shimcore.doctor.finding import Finding, failed, passed
from shimcore.doctor.node import Node
from shimcore.errors import RuntimeUnavailableError, ShimError
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import (
    ForbiddenRuntimeError,
    NoCriError,
    RuntimeCallError,
    SeveralRuntimesError,
    StatusCode,
)
from shimcore.runtime.peer import peer_of
from shimcore.runtime.values import RuntimeVersion
from shimcore.systemd.kubelet import same_socket
from shimcore.systemd.kubelet_way import kubelet_way
from shimcore.systemd.runtimes.distributions import embedded_kubelet
from shimcore.systemd.runtimes.node import DISTRIBUTIONS, config_file, kind_of, service_of

ANSWER_S = 5.0
AS_ROOT = "run it as root"


async def look(node: Node) -> list[Finding]:
    """Where it is and whether it is well."""
    try:
        path = await socket_of(node)
    except SeveralRuntimesError as error:
        return [failed("runtime", str(error), await asyncio.to_thread(_which, node, error.sockets))]
    except NoCriError as error:
        return [failed("runtime", str(error), _enable(node, error.sockets[0]))]
    except RuntimeUnavailableError as error:
        return [failed("runtime", str(error), _start(node, None))]
    return [await _asked(node, path)]


async def socket_of(node: Node) -> str:
    """The runtime's socket. Raises RuntimeUnavailableError."""
    known = [str(node.root.host(path)) for path in KNOWN_SOCKETS]
    return node.runtime_socket or await detect_socket(known)


async def version_at(path: str) -> RuntimeVersion:
    """What the runtime at a socket says that it is. Raises ShimError."""
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    async with RuntimeClient(path) as client:
        return await client.version(ANSWER_S)


async def _asked(node: Node, path: str) -> Finding:
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    check = "runtime"
    try:
        async with RuntimeClient(path) as client:
            version = await client.version(ANSWER_S)
            ready, why = await client.ready(ANSWER_S)
    except RuntimeCallError as error:
        if error.code == StatusCode.UNIMPLEMENTED:
            return failed(check, f"what listens at {path} has no CRI", _enable(node, path))
        return failed(check, f"{path}: {error}", "see the runtime's log")
    except RuntimeUnavailableError as error:
        return failed(check, str(error), await _mend(node, path, error))
    named = f"{version.name} {version.version} at {path}"
    if not ready:
        return failed(check, f"{named} is not ready: {why}", "see the runtime's log")
    return passed(check, f"{named} is ready, CRI {version.api_version}")


def _which(node: Node, sockets: Sequence[str]) -> str:
    """What names one of several runtimes: kubelet's, where that can be seen."""
    root = node.root
    endpoint = kubelet_way(root, node.endpoint.shim_socket, node.proc).endpoint
    there = [path for path in KNOWN_SOCKETS if str(root.host(path)) in sockets]
    used = [path for path in there if endpoint and same_socket(root, endpoint, path)]
    used = used or _of_distribution(node, there)
    if node.config is None or not used:
        return "set `cri:` to the socket that kubelet shall use"
    return f"in {node.config.source}, write the runtime's socket (cri: {used[0]}){node.reload}"


def _of_distribution(node: Node, there: Sequence[str]) -> list[str]:
    """Those of a distribution that has kubelet inside, where the node is one of it."""
    try:
        if embedded_kubelet(node.root, node.endpoint.shim_socket) is None:
            return []
    except ShimError:
        pass  # it is there, and its files cannot be read
    return [path for path in there if kind_of(node.root, path) in DISTRIBUTIONS]


def _enable(node: Node, path: str) -> str:
    """What gives the containerd behind a socket its CRI."""
    file = config_file(node.root, kind_of(node.root, path), peer_of(path))
    named = " and ".join(f'"{each}"' for each in _disabled(node, file)) or '"cri"'
    return (
        f"in {file}, take {named} out of disabled_plugins; then systemctl restart "
        "containerd  # or, with Docker, set `cri:` to the socket of cri-dockerd"
    )


def _disabled(node: Node, file: str) -> list[str]:
    """The parts of CRI that containerd's configuration disables, as they are named there."""
    try:
        listed = tomllib.loads(node.root.text(file) or "").get("disabled_plugins", ())
    except (ShimError, ValueError):
        return []
    names = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    return [each for each in names if "cri" in each.split(".")]


async def _mend(node: Node, path: str, error: RuntimeUnavailableError) -> str:
    if isinstance(error, ForbiddenRuntimeError):
        return AS_ROOT
    return await _elsewhere(node, path) or _start(node, path)


async def _elsewhere(node: Node, path: str) -> str:
    """What leads to the runtime that is there, where nothing is at the socket configured."""
    known = [str(node.root.host(each)) for each in KNOWN_SOCKETS]
    if node.config is None or node.root.exists(path):
        return ""
    try:
        found = await detect_socket(known)
    except RuntimeUnavailableError:
        return ""
    return f"in {node.config.source}, write the runtime's socket (cri: {found}){node.reload}"


def _start(node: Node, path: str | None) -> str:
    """The command that starts the runtime whose socket, or whose files, are there."""
    unit = service_of(node.root, kind_of(node.root, path))
    runs = node.control is not None and node.control.is_active(f"{unit}.service")
    return f"systemctl {'restart' if runs else 'start'} {unit}  # journalctl -u {unit} is its log"
