"""Distributions of Kubernetes that write their runtime's configuration themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from shimcore.jsontext import value_at
from shimcore.runtime.containerd.release import Release
from shimcore.runtime.containerd.route import Wanted
from shimcore.systemd import unitfile
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.entries import File
from shimcore.systemd.envfile import flag_value
from shimcore.systemd.kubelet import RUNTIME_FLAG, UNIT, asked_here
from shimcore.systemd.overlay import HEADER, NotOursError, Overlay
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import containerd, rancher
from shimcore.systemd.runtimes.containerd import Containerd
from shimcore.systemd.runtimes.node import (
    DISTRIBUTIONS,
    K0S_CONTAINERD,
    MICROK8S_ARGUMENTS,
    Kind,
    has_unit,
    kind_of,
    service_of,
)
from shimcore.systemd.unitfile import ServiceUnit

_K0S = "/etc/k0s/containerd.d"
_K0S_OWN = "# k0s_managed=true"
_K0S_ARGUMENTS = "--kubelet-extra-args"
_K0S_RUNTIME = "--cri-socket"


@dataclass(frozen=True, slots=True)
class EmbeddedKubelet:
    """A kubelet without a unit of its own. It alone is pointed at the shim, by an argument:

    told of another runtime in their own settings, these distributions start no containerd.
    """

    unit: str
    """What starts it: restarted, it has read its files."""
    images: bool
    """Whether it asks for images at the shim."""
    sandboxes: bool
    advice: str
    """What to set by hand; nothing where there are changes."""
    changes: tuple[Change, ...] = ()
    """What wires it; none where that is left to the operator."""
    files: tuple[str, ...] = ()
    """Those that hold its arguments, where the process does not show them."""

    @property
    def wired(self) -> bool:
        """Whether there is nothing left to set."""
        return self.images and self.sandboxes


def wire_rancher(
    root: Root, kind: Kind, told: Sequence[Wanted], ours: Collection[str]
) -> list[Change]:
    """`registries.yaml` of k3s and RKE2, where nobody else has one. Raises ShimError.

    docs.k3s.io/installation/private-registry, docs.rke2.io/install/private_registry
    """
    path = f"/etc/rancher/{kind.lower()}/registries.yaml"
    text = root.text(path)
    tree = rancher.tree(path, text)
    missing = [each for each in told if not _has(tree, each)]
    if not missing:
        return []
    if text is not None and path not in ours:
        raise NotOursError(f"{path} is somebody else's", _registries(missing))
    overlay = Overlay(root, Part.RUNTIME)
    then = f"restart {service_of(root, kind)}.service"  # it reads the file when it starts
    overlay.put(path, HEADER + _registries(told), then)
    return overlay.changes()


def is_k0s_overridden(root: Root) -> bool:
    """Whether k0s leaves containerd's configuration, and with it that folder, to somebody else.

    k0s, isK0sManagedConfig: the first line of its own says so. Raises ShimError.
    """
    text = root.text(K0S_CONTAINERD)
    return text is not None and text.lstrip().splitlines()[:1] != [_K0S_OWN]


def wire_k0s(
    root: Root, release: Release, told: Sequence[Wanted], ours: Collection[str]
) -> list[Change]:
    """k0s takes parts of containerd's configuration from a folder (docs.k0sproject.io, Runtime).

    It goes into the part that says where registries are described, else into one of our own.
    Raises ShimError.
    """
    unit = f"{service_of(root, Kind.K0S)}.service"
    laid_over = 2 if release.is_v1 else 0

    def part(name: str) -> Containerd:
        return Containerd(f"{_K0S}/{name}", release, unit, laid_over=laid_over)

    parts = (part(name) for name in root.names(_K0S) if name.endswith(".toml"))
    telling = (each for each in parts if _tells_of_registries(root, each))
    return containerd.wire(root, next(telling, part("image-cri-shim.toml")), told, ours)


def _tells_of_registries(root: Root, part: Containerd) -> bool:
    settings = containerd.settings_of(root, part)
    return bool(settings.given_config_path) or settings.is_inline


def embedded_kubelet(root: Root, shim_socket: str) -> EmbeddedKubelet | None:
    """The kubelet of a distribution; None where there is none, or it has a unit of its own.

    Raises ShimError.
    """
    if has_unit(root, UNIT.removesuffix(".service")):
        return None
    kind = kind_of(root, None)
    if kind is Kind.MICROK8S:
        return _of_microk8s(root, shim_socket)
    if kind is Kind.K0S:
        return _of_k0s(root, shim_socket)
    return _of_rancher(root, shim_socket, kind) if kind in DISTRIBUTIONS else None


def _of_rancher(root: Root, shim_socket: str, kind: Kind) -> EmbeddedKubelet:
    """Arguments are added to those of other files by a drop-in (docs.k3s.io, Configuration File).

    RKE2 reads its files as k3s does (docs.rke2.io/install/configuration).
    """
    service = service_of(root, kind)
    unit = f"{service}.service"
    found = unitfile.read_service(root, unit) or ServiceUnit()
    variables = unitfile.variables(root, found)
    command = " ".join(found.arguments(variables))
    if f"--{rancher.ARGUMENT}" in command:
        # On the command line they take the place of those in files.
        told = rancher.given(command)
        arguments = _added(told, shim_socket, f"--{rancher.ARGUMENT}=")
        advice = (
            f"add {arguments} to ExecStart of {service} "
            f"(systemctl edit --full {service}), then systemctl restart {service}"
        )
        return EmbeddedKubelet(unit, *asked_here(root, told, shim_socket), advice)
    main = rancher.main_file(kind.lower(), command, variables)
    texts = rancher.read(root, main)
    path, text, older = rancher.drop_in(main, texts, f"unix://{shim_socket}")
    then = f"restart {unit}"
    changes = (
        Change(path, File(text.encode()), part=Part.WIRING, then=then),
        *(Change(each, None, part=Part.WIRING, then=then) for each in older),
    )
    asked = asked_here(root, rancher.flags(texts), shim_socket)
    return EmbeddedKubelet(unit, *asked, "", changes, tuple(texts))


def _added(told: Sequence[str], shim_socket: str, before: str = "--") -> str:
    """The arguments to add to those that kubelet is told."""
    flags = rancher.needed(told)
    return " ".join(f"{before}{flag[2:]}=unix://{shim_socket}" for flag in flags)


def _of_microk8s(root: Root, shim_socket: str) -> EmbeddedKubelet:
    """By kubelet's file of arguments (kubelite, ReadArgsFromFile): quotes have no meaning in it."""
    file = f"{MICROK8S_ARGUMENTS}/kubelet"
    lines = (line.strip() for line in (root.text(file) or "").splitlines())
    text = " ".join(line for line in lines if not line.startswith("#"))
    arguments = text.replace('"', "").replace("'", "").split()
    added = _added(arguments, shim_socket)
    advice = f"echo {added} >>{file} && snap restart microk8s.daemon-kubelite"
    asked = asked_here(root, arguments, shim_socket)
    return EmbeddedKubelet("snap.microk8s.daemon-kubelite.service", *asked, advice, files=(file,))


def _of_k0s(root: Root, shim_socket: str) -> EmbeddedKubelet:
    """By the command of its service: a worker's, or a controller's that is a worker, too.

    With `--cri-socket` it starts no containerd (docs.k0sproject.io, Runtime).
    """
    service = service_of(root, Kind.K0S)
    unit = f"{service}.service"
    command = unitfile.command(root, unit)
    given = flag_value(command, _K0S_ARGUMENTS)
    runtime = (flag_value(command, _K0S_RUNTIME) or "").removeprefix("remote:")
    told = [*([f"{RUNTIME_FLAG}={runtime}"] if runtime else []), *(given or "").split()]
    added = _added(told, shim_socket)
    what = f'{_K0S_ARGUMENTS}="{added}" to ExecStart'
    if given is not None:  # the last one counts
        what = f"{added} to {_K0S_ARGUMENTS} in ExecStart"
    advice = (
        f"add {what} of {service} (systemctl edit --full {service}), "
        f"then systemctl restart {service}"
    )
    return EmbeddedKubelet(unit, *asked_here(root, told, shim_socket), advice)


def _registries(told: Iterable[Wanted]) -> str:
    mirrors = {each.host: {"endpoint": [each.address]} for each in told}
    tree: dict[str, Any] = {"mirrors": mirrors}
    if configs := {each.host: {"tls": tls} for each in told if (tls := containerd.tls_of(each))}:
        tree["configs"] = configs
    text: str = yaml.safe_dump(tree, sort_keys=False, default_flow_style=False)
    return text


def _has(tree: dict[str, Any], told: Wanted) -> bool:
    """Whether somebody has written it already."""
    endpoints = value_at(tree, "mirrors", told.host, "endpoint") or []
    if told.is_http:
        return told.address in endpoints
    tls = value_at(tree, "configs", told.host, "tls") or {}
    return all(tls.get(key) == value for key, value in containerd.tls_of(told).items())
