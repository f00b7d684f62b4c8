"""A file, or text, → Config; the cluster's part, if there is one, over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shimcore.config.building import build
from shimcore.config.document import Tree, read_document
from shimcore.config.files import Files, UnreadableFileError
from shimcore.config.kubernetes import ClusterPart
from shimcore.config.merging import merged
from shimcore.config.model import Config, FileStamp
from shimcore.config.origins import leaves
from shimcore.errors import ConfigError, ConfigFault


def load(path: str | os.PathLike[str], cluster: ClusterPart | None = None) -> Config:
    """The configuration in the file `path`; ConfigError with every fault of it.

    What `cluster` says is merged over it, in memory.
    """
    loaded = attempt(os.fspath(path), cluster).outcome
    if isinstance(loaded, ConfigError):
        raise loaded
    return loaded


def parse_config(text: str, source: str) -> Config:
    """The configuration in `text`; relative paths in it are below the folder of `source`.

    Reads the files that it names (logins, authorities). ConfigError with every fault.
    """
    return _parse(text, source, Files(os.path.dirname(source)), None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What loading came to, and what it depended on: stamps of all files, what they held."""

    outcome: Config | ConfigError
    stamps: tuple[FileStamp, ...]
    contents: Mapping[str, bytes] = field(repr=False)


def attempt(
    path: str, cluster: ClusterPart | None = None, kept: Mapping[str, bytes] | None = None
) -> Attempt:
    """Load `path`; the files in `kept` hold what they held when they were kept."""
    files = Files(os.path.dirname(path), kept)
    outcome: Config | ConfigError
    try:
        outcome = _parse(_read(path, files), path, files, cluster)
    except ConfigError as error:
        outcome = error
    return Attempt(outcome, files.stamps(), files.contents)


def _read(path: str, files: Files) -> str:
    try:
        return files.read_text(path)
    except UnreadableFileError as error:
        raise ConfigError(path, (ConfigFault("", str(error)),)) from None


def _parse(text: str, source: str, files: Files, cluster: ClusterPart | None) -> Config:
    tree, faults = read_document(text)
    if tree is None and faults:
        raise ConfigError(source, tuple(faults))
    if tree is not None and not isinstance(tree, dict):
        reason = "keys and values expected, such as: address: http://sealos.hub:5000"
        raise ConfigError(source, (ConfigFault("", reason),))
    given = tree or {}
    own = build(given, source, files, faults, dict.fromkeys(leaves(given, ""), source))
    if cluster is None or not cluster.documents:
        return own
    if not own.kubernetes.enabled or not cluster.belongs_to(own.kubernetes):
        return own
    return _with_cluster(given, own, files, cluster)


def _with_cluster(tree: dict[str, Tree], own: Config, files: Files, cluster: ClusterPart) -> Config:
    """The cluster's part over a file that is faultless by itself; the faults are the cluster's."""
    source = own.source
    layer = merged(tree, own, cluster.layers())
    try:
        config = build(layer.tree, source, files, [], layer.origins)
    except ConfigError as error:
        names = " and ".join(cluster.origin(kind) for kind in cluster.documents)
        raise ConfigError(f"{source} with {names}", error.faults) from None
    lone = (*own.lone_logins, *layer.lone_logins)
    notices = (*config.notices, *layer.notices, *map(str, layer.lone_logins))
    return replace(config, notices=notices, lone_logins=lone)
