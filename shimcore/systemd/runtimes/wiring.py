"""What has to change so that the node's runtime reaches the configured registries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from shimcore.errors import ShimError
from shimcore.runtime.containerd import Release, read_settings
from shimcore.systemd.changes import Change
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import containerd, crio, distributions, docker, node
from shimcore.systemd.runtimes.containerd import Containerd
from shimcore.systemd.runtimes.node import Kind, Running
from shimcore.systemd.runtimes.registries import to_tell


@dataclass(frozen=True, slots=True)
class RuntimeWiring:
    """The changes, and what the operator should know."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def wire_runtime(
    root: Root,
    config_file: str,
    runtime_socket: str | None,
    process: Running | None,
    ours: Collection[str],
) -> RuntimeWiring:
    """The changes for the runtime behind the socket; `ours` are the files installed already.

    `process` is the one that listens there, where it runs. Raises ShimError.
    """
    told = to_tell(root, config_file)
    if not told:
        return RuntimeWiring()
    kind = node.kind_of(root, runtime_socket)
    if kind is Kind.CRIO:
        return RuntimeWiring(crio.wire(root, told, ours))
    if kind is Kind.DOCKER:
        return RuntimeWiring(docker.wire(root, told, ours))
    if kind in distributions.REGISTRIES:
        changes = distributions.wire_rancher(root, kind, told, ours)
        return RuntimeWiring(changes, [distributions.READ_AT_START[kind]] if changes else [])
    if kind is Kind.K0S:
        distributions.check_k0s(root, told)
        return RuntimeWiring()
    return RuntimeWiring(containerd.wire(root, _containerd(root, kind, process), told, ours))


def _containerd(root: Root, kind: Kind, process: Running | None) -> Containerd:
    path = node.config_file(root, kind, process)
    release = node.release(root, kind, process)
    if release is None:  # no program to look at: the file tells
        versions = read_settings(root, path, Release.V1).versions
        if not versions:
            raise ShimError(
                f"no containerd found: there is no {path}, and no program whose release could be "
                "told; install it first, or set `cri:` to the runtime's socket"
            )
        release = Release.V2 if versions[path] > 2 else Release.V1
    return Containerd(path, release, node.unit_of(kind), generated=kind is Kind.MICROK8S)
