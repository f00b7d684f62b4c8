"""The container runtime: one socket, its CRI, ready."""

from __future__ import annotations

from shimcore.doctor.finding import Finding, failed, passed
from shimcore.doctor.node import Node
from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import RuntimeCallError, SeveralRuntimesError, StatusCode

ANSWER_S = 5.0
_NO_CRI = (
    'take "cri" out of disabled_plugins in /etc/containerd/config.toml and restart containerd, '
    "or set `cri:` to the socket of cri-dockerd"
)


async def look(node: Node) -> list[Finding]:
    """Where it is and whether it is well."""
    try:
        path = await socket_of(node)
    except SeveralRuntimesError as error:
        return [failed("runtime", str(error), "set `cri:` to the socket that kubelet shall use")]
    except RuntimeUnavailableError as error:
        mend = "start the runtime, or set `cri:` to its socket"
        return [failed("runtime", str(error), _NO_CRI if "no CRI" in str(error) else mend)]
    return [await _asked(path)]


async def socket_of(node: Node) -> str:
    """The runtime's socket. Raises RuntimeUnavailableError."""
    known = [str(node.root.host(path)) for path in KNOWN_SOCKETS]
    return node.runtime_socket or await detect_socket(known)


async def _asked(path: str) -> Finding:
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    check = "runtime"
    try:
        async with RuntimeClient(path) as client:
            version = await client.version(ANSWER_S)
            ready, why = await client.ready(ANSWER_S)
    except RuntimeCallError as error:
        if error.code == StatusCode.UNIMPLEMENTED:
            return failed(check, f"what listens at {path} has no CRI", _NO_CRI)
        return failed(check, f"{path}: {error}", "see the runtime's log")
    except RuntimeUnavailableError as error:
        return failed(check, str(error), "start the runtime (systemctl start containerd)")
    named = f"{version.name} {version.version} at {path}"
    if not ready:
        return failed(check, f"{named} is not ready: {why}", "see the runtime's log")
    return passed(check, f"{named} is ready, CRI {version.api_version}")
