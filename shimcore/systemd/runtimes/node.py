"""Which runtime the node has, and where that keeps what it is told of registries."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import Release, release_in
from shimcore.runtime.containerd.settings import DEFAULT_FILE
from shimcore.runtime.peer import Peer, containerd_file
from shimcore.systemd import unitfile
from shimcore.systemd.root import Root


class Kind(StrEnum):
    """A runtime as it is set up."""

    CONTAINERD = "containerd"
    CRIO = "CRI-O"
    DOCKER = "docker with cri-dockerd"
    K3S = "k3s"
    RKE2 = "RKE2"
    MICROK8S = "MicroK8s"
    K0S = "k0s"


DISTRIBUTIONS = frozenset({Kind.K3S, Kind.RKE2, Kind.MICROK8S, Kind.K0S})
"""Those that have kubelet inside, and a containerd of their own for it."""

MICROK8S_ARGUMENTS = "/var/snap/microk8s/current/args"
K0S_CONTAINERD = "/etc/k0s/containerd.toml"
# (part of the socket's path, a directory where it is installed, kind); the first counts. k3s
# and RKE2 have the same socket.
_SIGNS = (
    ("/run/k3s/", "/var/lib/rancher/rke2", Kind.RKE2),
    ("/run/k3s/", "/var/lib/rancher/k3s", Kind.K3S),
    ("/microk8s/", MICROK8S_ARGUMENTS, Kind.MICROK8S),
    ("/run/k0s/", "/var/lib/k0s", Kind.K0S),
    ("crio.sock", "/etc/crio", Kind.CRIO),
    ("cri-dockerd", "/usr/bin/cri-dockerd", Kind.DOCKER),
    ("dockershim", "/usr/local/bin/cri-dockerd", Kind.DOCKER),
)
# The service of each; of k3s and RKE2 on a server, on an agent (RKE2's tarball brings both units);
# of k0s on a worker, on a controller that is one, too.
_SERVICES = {
    Kind.CONTAINERD: ("containerd",),
    Kind.CRIO: ("crio",),
    Kind.DOCKER: ("cri-docker",),
    Kind.K3S: ("k3s", "k3s-agent"),
    Kind.RKE2: ("rke2-server", "rke2-agent"),
    Kind.MICROK8S: ("snap.microk8s.daemon-containerd",),
    Kind.K0S: ("k0sworker", "k0scontroller"),
}
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_PROGRAMS = (
    "/usr/bin/containerd",
    "/usr/local/bin/containerd",
    "/bin/containerd",
    "/var/lib/k0s/bin/containerd",
)


def kind_of(root: Root, runtime_socket: str | None) -> Kind:
    """The kind of the runtime; by its files where no socket is known.

    What was there before may have left its folder: of several the one whose service is enabled.
    """
    kinds = []
    for part, directory, kind in _SIGNS:
        if runtime_socket is None:
            there = root.exists(directory)
        elif part == "/run/k3s/" and kind is Kind.RKE2:
            there = part in runtime_socket and root.exists(directory)
        else:
            there = part in runtime_socket
        if there:
            kinds.append(kind)
    if len(kinds) > 1:
        kinds.sort(key=lambda kind: min(_rank(root, each) for each in _SERVICES[kind]))
    return next(iter(kinds), Kind.CONTAINERD)


def service_of(root: Root, kind: Kind) -> str:
    """The runtime's service on this node: of several that are there the one that is enabled."""
    return min(_SERVICES[kind], key=lambda each: _rank(root, each))


def _rank(root: Root, service: str) -> int:
    """0 for one that is enabled, 1 for one that is there, 2 for another."""
    if not has_unit(root, service):
        return 2
    return 0 if root.exists(f"{_WANTS}/{service}.service") else 1


def has_unit(root: Root, service: str) -> bool:
    """Whether there is such a service."""
    try:
        return unitfile.read_service(root, f"{service}.service") is not None
    except ShimError:
        return True  # one that cannot be read


def config_file(root: Root, kind: Kind, process: Peer | None) -> str:
    """The configuration file that containerd is started with."""
    command = _unit_command(root, kind) if process is None else process.command
    if named := containerd_file(command):
        return named
    if kind is Kind.MICROK8S:
        return f"{MICROK8S_ARGUMENTS}/containerd.toml"
    return K0S_CONTAINERD if kind is Kind.K0S else DEFAULT_FILE


def release(root: Root, kind: Kind, process: Peer | None) -> Release | None:
    """The release of containerd by its program; None where there is none to be read."""
    if process is not None and process.is_containerd:
        return _release_in(process.program)
    for path in (*_unit_command(root, kind)[:1], *_PROGRAMS):
        if path.startswith("/") and root.exists(path):
            return _release_in(root.host(path))
    return None


def _unit_command(root: Root, kind: Kind) -> Sequence[str]:
    """How its unit starts it, where it has one of its own."""
    named = kind if kind is Kind.MICROK8S else Kind.CONTAINERD
    try:
        unit = unitfile.read_service(root, f"{_SERVICES[named][0]}.service")
    except ShimError:
        return ()
    # What it is started with decides which file is changed: one that is hidden is no default.
    return () if unit is None else unit.arguments(unitfile.variables(root, unit))


def _release_in(program: Path) -> Release | None:
    with (
        contextlib.suppress(OSError, ValueError),
        program.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
    ):
        return release_in(text)
    return None
