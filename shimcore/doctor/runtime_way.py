"""The runtime's own way to each registry: it pulls by itself, with its own settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.runtime import ANSWER_S, socket_of
from shimcore.errors import ShimError
from shimcore.runtime.containerd import (
    DEFAULT_FILE,
    RegistrySettings,
    Route,
    Verdict,
    Wanted,
    judge,
    read_settings,
    release_of,
    route,
)
from shimcore.runtime.containerd.route import is_loopback
from shimcore.runtime.peer import peer_of
from shimcore.systemd.runtimes import crio, docker
from shimcore.systemd.runtimes.registries import told_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimcore.config import Registry
    from shimcore.systemd.root import Root

CERTS = "/etc/containerd/certs.d"
_RESTART = "then systemctl restart containerd (running pods stay)"
_WIRE = "image-cri-shim install-service --wire-runtime --now"
_WIRES = {"docker": docker.wire, "cri-o": crio.wire}


async def look(node: Node) -> list[Finding]:
    """A finding for each registry; none where the runtime does not say what it is."""
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    if node.config is None:
        return []
    try:
        socket = await socket_of(node)
        async with RuntimeClient(socket) as client:
            version = await client.version(ANSWER_S)
    except ShimError:
        return []  # told as the runtime's
    registries = node.config.registries
    if version.name == "containerd":
        return await asyncio.to_thread(_containerd, node.root, socket, version.version, registries)
    return await asyncio.to_thread(_others, node.root, version.name, registries)


def _containerd(
    root: Root, socket: str, version: str, registries: Sequence[Registry]
) -> list[Finding]:
    file = _config_file(socket)
    try:
        settings = read_settings(root, file, release_of(version))
    except ShimError as error:
        return [failed("containerd's configuration", f"{file}: {error}", f"mend {file}")]
    return [containerd_way(root, settings, registry, file) for registry in registries]


def containerd_way(
    root: Root, settings: RegistrySettings, registry: Registry, file: str = DEFAULT_FILE
) -> Finding:
    """Whether containerd reaches the registry in the way that the shim does."""
    check = f"containerd's way to {registry.host}"
    try:
        wanted = _wanted(root, registry)
        way = route(root, settings, registry.host)
        verdict = judge(root, way, wanted)
    except ShimError as error:
        return failed(check, str(error), f"mend the file, {_RESTART}")
    where = f" ({way.file})" if way.file else ""
    if verdict is Verdict.FITS:
        urls = ", ".join(endpoint.url for endpoint in way.endpoints)
        return passed(check, f"{urls}{where}")
    fault = f": {way.fault}" if way.fault else ""
    why = f"{verdict.value}, because of {way.reason.value}{where}{fault}"
    return failed(check, why, _mend(settings, registry, way, file))


def _wanted(root: Root, registry: Registry) -> Wanted:
    authority = (root.text(registry.ca_file) or "") if registry.ca_file else ""
    return Wanted(registry.scheme, registry.host, authority, registry.insecure_skip_verify)


def _mend(settings: RegistrySettings, registry: Registry, way: Route, file: str) -> str:
    """The table to write, where to write it, and the key without which it is not read."""
    if settings.is_inline and not settings.given_config_path:
        return f'in {file}: registry.mirrors."{registry.host}".endpoint = ["{registry.address}"]'
    directory = settings.directories[0] if settings.given_config_path else CERTS
    extra = ""
    if registry.ca_file:
        extra = f'\n  ca = "{registry.ca_file}"'
    elif registry.insecure_skip_verify:
        extra = "\n  skip_verify = true"
    path = way.file if way.file.endswith("hosts.toml") and not way.is_default_folder else ""
    path = path or f"{directory}/{registry.host}/hosts.toml"
    text = f'[host."{registry.address}"]\n  capabilities = ["pull", "resolve"]{extra}'
    mend = f"write into {path}: {text}"
    if not settings.given_config_path:
        section = (
            "io.containerd.grpc.v1.cri"
            if settings.release.is_v1
            else ("io.containerd.cri.v1.images")
        )
        version = 2 if settings.release.is_v1 else 3
        mend += (
            f"\nand into {file} (version = {version}): "
            f"[plugins.'{section}'.registry] config_path = '{CERTS}', {_RESTART}"
        )
    return mend


def _config_file(socket: str) -> str:
    """The file that the containerd behind the socket was started with."""
    peer = peer_of(socket)
    words = peer.command if peer is not None else ()
    for index, word in enumerate(words):
        if word in {"-c", "--config"} and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(("--config=", "-c=")):
            return word.partition("=")[2]
    return DEFAULT_FILE


def _others(root: Root, runtime: str, registries: Sequence[Registry]) -> list[Finding]:
    return [other_way(root, runtime, registry) for registry in registries]


def other_way(root: Root, runtime: str, registry: Registry) -> Finding:
    """Whether docker or CRI-O is told what it needs; of other runtimes, what to check."""
    check = f"the runtime's way to {registry.host}"
    try:
        told = told_of(root, registry)
        if not told.wanted.needs_entry or (is_loopback(registry.host) and told.is_http):
            return passed(check, f"{runtime} needs no setting for it")
        wire = _WIRES.get(runtime)
        if wire is None:
            why = f"{runtime} may not reach it as the shim does"
            return warned(check, why, f"see that {runtime} reaches {registry.address}")
        missing = [change.path for change in wire(root, [told], ())]
    except ShimError as error:
        return failed(check, str(error), "change that file so, then reload the runtime")
    if not missing:
        return passed(check, f"{runtime} is told of it")
    why = f"{runtime} is not told of {registry.address}: its pulls fail"
    return failed(check, why, f"{_WIRE} (it writes {', '.join(missing)})")
