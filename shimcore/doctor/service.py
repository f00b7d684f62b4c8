"""The service: its units, its socket and who serves it, and what the shim says of itself."""

from __future__ import annotations

import asyncio
import os

from shimcore.client.admin import Condition
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.runtime import AS_ROOT, version_at
from shimcore.errors import ShimError
from shimcore.runtime.errors import RuntimeCallError
from shimcore.runtime.peer import peer_of
from shimcore.systemd import record
from shimcore.systemd.kubelet import same_socket
from shimcore.systemd.places import closed
from shimcore.systemd.unitfile import listening, read_service
from shimcore.systemd.units import SERVICE, SOCKET

_INSTALL = "install-service --now"
_LOG = f"journalctl -u {SERVICE}  # says why; then systemctl restart {SERVICE}"
_START = f"systemctl start {SERVICE}  # if it does not: journalctl -u {SERVICE} says why"


async def look(node: Node) -> list[Finding]:
    """Units first, then the socket."""
    units = await asyncio.to_thread(_units, node)
    return [*units, *await _socket(node)]


def _units(node: Node) -> list[Finding]:
    unit = read_service(node.root, SERVICE)
    if unit is None:
        return [warned("units", f"there is no {SERVICE}", node.command(_INSTALL))]
    command = next(iter(unit.arguments({})), "")
    if command.startswith("/") and not node.root.exists(command):
        why = f"{SERVICE} starts {command}, which is not there"
        return [failed("units", why, f"{_install(node, SERVICE)}  # or reinstall the package")]
    if command.startswith("/"):
        for each in closed([str(node.root.host(command, last=False))], node.root):
            return [failed("units", str(each), each.mend)]
    if node.control is not None and not node.control.is_active(SERVICE):
        return [failed("units", f"{SERVICE} does not run", _START)]
    if listens := _listens_elsewhere(node):
        why = f"{SOCKET} listens at {listens}, and not at the configuration's shim"
        return [failed("units", why, _install(node, SOCKET))]
    return [passed("units", f"{SERVICE} is there" + " and runs" * (node.control is not None))]


def _listens_elsewhere(node: Node) -> str:
    """Where systemd's socket is, if that is not where the configuration has it; else ""."""
    paths = listening(node.root, SOCKET)
    off = node.control is not None and not node.control.is_active(SOCKET)
    if node.config is None or off or not paths:
        return ""
    shim = node.config.shim_socket
    return "" if any(same_socket(node.root, path, shim) for path in paths) else ", ".join(paths)


def _install(node: Node, unit: str) -> str:
    """The command that writes the unit anew, also over what somebody has made of it."""
    path = f"/etc/systemd/system/{unit}"
    try:
        ours = record.written(node.root, changed=True)
        changed = path in ours and path not in record.written(node.root)
    except ShimError:
        changed = False
    return node.command(_INSTALL + " --force" * changed)


async def _socket(node: Node) -> list[Finding]:
    check, status = "socket", node.status
    if status is None:
        by_hand = f"see that admin in {node.endpoint.file} is a path where a socket can be"
        if isinstance(node.endpoint.denied, TimeoutError):
            by_hand = f"see the disk that {node.endpoint.file} is on"
        return [failed(check, node.status_error, AS_ROOT if node.status_refused else by_hand)]
    said = "; ".join(status.detail)
    if status.condition is Condition.NOT_RUNNING:
        runs = node.control is not None and node.control.is_active(SERVICE)
        return [failed(check, said, _bind(node) if runs else _START)]
    if status.condition is Condition.STARTING:
        why = f"the shim is starting: {status.facts['starting']}"
        return [failed(check, why, "mend the runtime, which is told below")]
    if status.condition is Condition.BYPASS or not status.facts["serving"]:
        return [failed(check, said, _LOG)]
    return [_serves_another(node) or await _answers(node)]


def _serves_another(node: Node) -> Finding | None:
    """That the shim which answers has not the configuration that is looked at."""
    served = node.facts["config"].get("file")
    if not served or os.path.realpath(served) == os.path.realpath(node.endpoint.file):
        return None
    why = f"{node.endpoint.shim_socket} is served by a shim with another file, {served}"
    mend = f"image-cri-shim -f {served} doctor  # or end that one, and start this one's service"
    return failed("socket", why, mend)


def _bind(node: Node) -> str:
    """The command after which the sockets are there anew: systemd's, and with it the service."""
    if _listens_elsewhere(node):
        return _install(node, SOCKET)
    bound = read_service(node.root, SOCKET) is not None
    return f"systemctl restart {SOCKET if bound else SERVICE}"


async def _answers(node: Node) -> Finding:
    """Whether CRI comes through the socket, and from the shim."""
    check, path = "socket", node.endpoint.shim_socket
    ours, theirs = peer_of(node.endpoint.admin_socket), peer_of(path)
    # 1: systemd, whose socket the service has.
    if ours and theirs and theirs.pid not in {1, ours.pid}:
        why = f"{path} is served by another process than the shim ({theirs.pid}: {theirs.name})"
        return failed(check, why, f"kill {theirs.pid} && {_bind(node)}")
    try:
        version = await version_at(path)
    except RuntimeCallError as error:
        return failed(check, f"{path}: {error}", "mend the runtime, which is told below")
    except ShimError as error:
        gone = theirs is None
        return failed(check, f"{path}: {error}", _bind(node) if gone else _LOG)
    return passed(check, f"{path} answers for {version.name} {version.version}")
