"""What has to change so that the node's runtime reaches the configured registries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import Release
from shimcore.runtime.containerd.route import Wanted
from shimcore.runtime.containerd.settings import read_settings
from shimcore.runtime.peer import Peer
from shimcore.systemd.changes import Change
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import containerd, crio, distributions, docker, node
from shimcore.systemd.runtimes.containerd import Containerd
from shimcore.systemd.runtimes.node import Kind

ContainerdOf = Callable[[], Containerd | None]


def wire_runtime(
    root: Root,
    told: Sequence[Wanted],
    kind: Kind,
    containerd_of: ContainerdOf,
    ours: Collection[str],
) -> list[Change]:
    """The changes for a runtime of this kind; `ours` are the files as an installation left them.

    `containerd_of` says how a containerd is set up, and is asked for one alone. Raises ShimError.
    """
    unknown = [each for each in told if each.needs_setting]
    overridden = kind is Kind.K0S and distributions.is_k0s_overridden(root)
    if kind in {Kind.CONTAINERD, Kind.MICROK8S} or overridden:
        # All of them: somebody's file may lead astray what the defaults would reach.
        found = containerd_of()
        if found is None and unknown:
            raise ShimError(
                "no containerd found: there is no configuration file, and no program whose "
                "release could be told; install it first, or set `cri:` to the runtime's socket"
            )
        return [] if found is None else containerd.wire(root, found, told, ours)
    if not unknown:
        return []
    if kind is Kind.CRIO:
        return crio.wire(root, unknown, ours)
    if kind is Kind.DOCKER:
        return docker.wire(root, unknown, ours)
    if kind is Kind.K0S:
        found = containerd_of()
        release = Release.V1 if found is None else found.release
        return distributions.wire_k0s(root, release, unknown, ours)
    return distributions.wire_rancher(root, kind, unknown, ours)


def containerd_on(root: Root, kind: Kind, process: Peer | None) -> Containerd | None:
    """How containerd is set up; None where there is none. Raises ShimError."""
    release = node.release(root, kind, process)
    if release is None:  # no program to look at: the file tells
        path = node.config_file(root, kind, process)
        settings = read_settings(root, path, Release.V2_3)
        if not settings.files:
            return None
        release = {3: Release.V2_1, 4: Release.V2_3}.get(settings.version, Release.V1)
    return containerd_of(root, kind, process, release)


def containerd_of(root: Root, kind: Kind, process: Peer | None, release: Release) -> Containerd:
    """How a containerd of this release is set up."""
    path = node.config_file(root, kind, process)
    unit = f"{node.service_of(root, kind)}.service"
    return Containerd(path, release, unit, generated=kind is Kind.MICROK8S)
