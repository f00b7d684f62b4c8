"""The runtime's own way to each registry: it pulls by itself, with its own settings."""

from __future__ import annotations

import asyncio
import json
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shimcore.config import Registry
    from shimcore.systemd.root import Root

CERTS = "/etc/containerd/certs.d"
DOCKER_FILE = "/etc/docker/daemon.json"
_RESTART = "then systemctl restart containerd (running pods stay)"


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
    return [_other(node.root, version.name, registry) for registry in registries]


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


def _other(root: Root, runtime: str, registry: Registry) -> Finding:
    """What is known of other runtimes: enough to say what to check."""
    check = f"the runtime's way to {registry.host}"
    wanted = Wanted(
        registry.scheme, registry.host, registry.ca_file or "", registry.insecure_skip_verify
    )
    if not wanted.needs_entry or (is_loopback(registry.host) and registry.scheme == "http"):
        return passed(check, f"{runtime} needs no setting for it")
    if runtime == "docker":
        if registry.host in _insecure_registries(root):
            return passed(check, f"listed in insecure-registries of {DOCKER_FILE}")
        mend = (
            f'"insecure-registries": ["{registry.host}"] in {DOCKER_FILE}, then kill -HUP dockerd'
        )
        if registry.ca_file:
            mend = f"cp {registry.ca_file} /etc/docker/certs.d/{registry.host}/ca.crt"
        return warned(check, "docker may not reach it as the shim does", mend)
    mend = (
        f'[[registry]] location = "{registry.host}", insecure = true, in a file of '
        "/etc/containers/registries.conf.d, then systemctl reload crio"
    )
    if registry.ca_file:
        mend = f"cp {registry.ca_file} /etc/containers/certs.d/{registry.host}/ca.crt"
    return warned(check, f"{runtime} may not reach it as the shim does", f"see that: {mend}")


def _insecure_registries(root: Root) -> list[str]:
    try:
        tree = json.loads(root.text(DOCKER_FILE) or "{}")
    except (ShimError, ValueError):
        return []
    listed = tree.get("insecure-registries") if isinstance(tree, dict) else None
    return [str(one) for one in listed] if isinstance(listed, list) else []
