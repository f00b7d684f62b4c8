"""The registries of a configuration that the runtime has to be told of."""

from __future__ import annotations

from functools import partial

from shimcore.cluster.starting import Start, with_kept
from shimcore.config import Registry
from shimcore.config.load import attempt
from shimcore.errors import ShimError
from shimcore.runtime.containerd.route import Wanted
from shimcore.systemd.root import Root

_NOT_YET = (
    "the cluster's registries are not known on this node yet: run install-service --wire-runtime "
    "--now again once status says that the cluster is watched"
)


def to_tell(root: Root, config_file: str) -> tuple[list[Wanted], list[str]]:
    """Those of the configuration file and of the cluster's part, as far as the node knows it.

    In order of priority; with them what the operator should know. Raises ShimError.
    """
    contents = partial(_contents, root)
    own = attempt(config_file, kept=contents).config
    folder = str(root.host(own.state_dir))
    start = with_kept(config_file, Start(own, own), folder=folder, contents=contents)
    notes = list(start.faults)
    if own.kubernetes.enabled and not notes and start.kept is None:
        notes.append(_NOT_YET)
    return [told_of(root, registry) for registry in start.config.registries], notes


def told_of(root: Root, registry: Registry) -> Wanted:
    """What a runtime has to know of the registry. Raises ShimError."""
    https = registry.scheme == "https"
    ca_file = registry.ca_file or "" if https and not registry.insecure_skip_verify else ""
    ca = root.text(ca_file) or "" if ca_file else ""
    skip = https and registry.insecure_skip_verify
    return Wanted(registry.scheme, registry.host, ca, skip, registry.address, ca_file)


def _contents(root: Root, path: str) -> bytes | None:
    """What a file of an unpacked image holds; on the machine it is read as any other."""
    if root.is_machine:
        return None
    text = root.text(path)
    if text is None:
        raise ShimError(f"{path}: no such file in {root.directory}")
    return text.encode()
