"""The runtime's own way to each registry: it pulls by itself, with its own settings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shimcore.config import Registry
from shimcore.doctor import proxies
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.runtime import socket_of, version_at
from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import release_of
from shimcore.runtime.containerd.route import Reason, Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import RegistrySettings
from shimcore.runtime.peer import peer_of
from shimcore.runtime.values import RuntimeVersion
from shimcore.systemd import record
from shimcore.systemd.overlay import NotOursError
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import crio, docker
from shimcore.systemd.runtimes.containerd import Containerd, settings_of
from shimcore.systemd.runtimes.node import Kind, kind_of
from shimcore.systemd.runtimes.registries import told_of
from shimcore.systemd.runtimes.wiring import containerd_of, wire_runtime

_WIRE = "install-service --wire-runtime --now"
_WIRES = {"docker": docker.wire, "cri-o": crio.wire}
_RELOAD = {"docker": "systemctl reload docker", "cri-o": "systemctl reload crio"}


async def look(node: Node) -> list[Finding]:
    """A finding for each registry; none where the runtime does not say what it is."""
    if node.config is None:
        return []
    try:
        socket = await socket_of(node)
        version = await version_at(socket)
    except ShimError:
        return []  # told as the runtime's
    return await asyncio.to_thread(_ways, node, socket, version, node.config.registries)


def wire(node: Node) -> str:
    """The command that tells the runtime of the registries."""
    return node.command(_WIRE)


async def way_of_its_own(node: Node, host: str) -> str:
    """Why the runtime may reach a host that this process does not; "" where nothing says so."""
    try:
        socket = await socket_of(node)
        version = await version_at(socket)
    except ShimError as error:
        return str(error)
    if version.name != "containerd":
        return f"{version.name} may have settings of its own"
    if _has_proxy(socket, host):
        return "containerd has a proxy"
    try:
        _, containerd = _containerd(node.root, socket, version)
        way = route(node.root, settings_of(node.root, containerd), host)
    except ShimError as error:
        return str(error)
    if way.reason in {Reason.HOSTS_FILE, Reason.INLINE, Reason.CERTIFICATES}:
        return f"containerd has settings for it ({way.file or way.reason.value})"
    return ""


def _has_proxy(socket: str, host: str) -> bool:
    """Whether the process behind the socket was given one for https to the host."""
    peer = peer_of(socket)
    environ = {} if peer is None else peer.environ
    if environ is None:
        return True  # it cannot be seen
    https = Registry.unconfigured(f"https://{host}", "https", host)
    return bool(proxies.in_the_way(environ, https))


def _containerd(root: Root, socket: str, version: RuntimeVersion) -> tuple[Kind, Containerd]:
    """How the containerd behind the socket is set up."""
    kind = kind_of(root, socket)
    return kind, containerd_of(root, kind, peer_of(socket), release_of(version.version))


def _ways(
    node: Node, socket: str, version: RuntimeVersion, registries: Sequence[Registry]
) -> list[Finding]:
    if version.name != "containerd":
        return [_other_way(node, version.name, registry) for registry in registries]
    kind, containerd = _containerd(node.root, socket, version)
    try:
        settings = settings_of(node.root, containerd)
    except ShimError as error:
        file = containerd.config_file
        return [failed("containerd's configuration", f"{file}: {error}", f"mend {file}")]
    return [_containerd_way(node, kind, containerd, settings, each) for each in registries]


def _containerd_way(
    node: Node, kind: Kind, containerd: Containerd, settings: RegistrySettings, registry: Registry
) -> Finding:
    """Whether containerd reaches the registry in the way that the shim does."""
    check, root = f"containerd's way to {registry.host}", node.root
    try:
        told = told_of(root, registry)
        way = route(root, settings, registry.host)
        verdict = judge(root, way, told)
    except ShimError as error:
        return failed(check, str(error), "mend that file, then restart the runtime")
    where = f" ({way.file})" if way.file else ""
    if verdict is Verdict.FITS:
        urls = ", ".join(endpoint.url for endpoint in way.endpoints)
        return passed(check, f"{urls}{where}")
    fault = f": {way.fault}" if way.fault else ""
    why = f"{verdict.value}, because of {way.reason.value}{where}{fault}"
    return failed(check, why, _mend(node, kind, containerd, told))


def _mend(node: Node, kind: Kind, containerd: Containerd, told: Wanted) -> str:
    """The command that tells the runtime, or what is left to be written by hand."""
    restart = f"systemctl restart {containerd.unit}"
    try:
        ours = record.written(node.root)
        wired = wire_runtime(node.root, [told], kind, lambda: containerd, ours)
    except NotOursError as error:
        said = f"{error.reason}; add what follows by hand, then {restart}"
        return f"{said}\n{error.addition}".rstrip()
    except ShimError as error:
        return f"{error}; then {restart}"
    return wire(node) if wired else f"{restart}  # it reads its files then"


def _other_way(node: Node, runtime: str, registry: Registry) -> Finding:
    """Whether docker or CRI-O is told what it needs; of other runtimes, what to check."""
    check = f"the runtime's way to {registry.host}"
    try:
        told = told_of(node.root, registry)
        if not told.needs_setting:
            return passed(check, f"{runtime} needs no setting for it")
        changes = _WIRES.get(runtime)
        if changes is None:
            why = f"{runtime} may not reach it as the shim does"
            return warned(check, why, f"see that {runtime} reaches {registry.address}")
        missing = [change.path for change in changes(node.root, [told], ours=())]
    except NotOursError as error:
        mend = f"add what follows by hand, then {_RELOAD[runtime]}\n{error.addition}"
        return failed(check, error.reason, mend.rstrip())
    except ShimError as error:
        then = _RELOAD.get(runtime, "restart the runtime")
        return failed(check, str(error), f"mend that file, then {then}")
    if not missing:
        return passed(check, f"{runtime} is told of it")
    why = f"{runtime} is not told of {registry.address}: its pulls fail"
    return failed(check, why, f"{wire(node)}  # it writes {', '.join(missing)}")
