"""Checks what a file holds: a configuration, or a manifest of the cluster's part of one."""

from __future__ import annotations

import os
from base64 import b64decode

from shimcore.cluster.documents import DATA_KEY, Kind, read_cluster_document
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import read_kubeconfig
from shimcore.config.document import Tree, mapping_of, read_document
from shimcore.config.files import Files
from shimcore.config.load import load, text_of
from shimcore.config.model import Config
from shimcore.errors import ConfigError, ConfigFault


def checked(path: str) -> tuple[str, ...]:
    """What is to be said of a file without faults. Raises ConfigError with all its faults.

    A manifest is checked for what it holds under `registries.yaml`.
    """
    tree, faults = read_document(text_of(path, Files(os.path.dirname(path))))
    kind = tree.get("kind") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or kind not in set(Kind):
        return load(path).notices
    if faults:
        raise ConfigError(path, tuple(faults))
    layer = read_cluster_document(_content(tree, path), f"{path}: {DATA_KEY}")
    notices = (*layer.notices, *map(str, layer.lone_logins))
    return tuple(notice.removeprefix(f"{path}: ") for notice in notices)


def cluster_doubts(config: Config) -> tuple[str, ...]:
    """Why the cluster's part cannot be read on this machine."""
    if not config.kubernetes.enabled:
        return ()
    try:
        read_kubeconfig(config.kubernetes.kubeconfig)
    except ApiUnreachableError as error:
        return (f"kubernetes.kubeconfig: {error}",)
    return ()


def files_of(config: Config) -> tuple[str, ...]:
    """The files that the service reads: the configuration's, and its kubeconfig's if readable."""
    paths = tuple(stamp.path for stamp in config.files)
    if not config.kubernetes.enabled:
        return paths
    try:
        return *paths, *read_kubeconfig(config.kubernetes.kubeconfig).files
    except ApiUnreachableError:  # its doubts are told by themselves
        return paths


def _content(manifest: dict[str, Tree], path: str) -> str:
    """The document in the manifest: in the field that has it as it is, or in that of base64."""
    is_secret = manifest.get("kind") == Kind.SECRET
    where, encoded = ("stringData", "data") if is_secret else ("data", "binaryData")
    for name in (where, encoded):
        text = mapping_of(manifest.get(name)).get(DATA_KEY)
        if isinstance(text, str):
            return text if name == where else _decoded(text, path, name)
    raise ConfigError(path, (ConfigFault(where, f"there is no {DATA_KEY} in it"),))


def _decoded(text: str, path: str, field: str) -> str:
    try:
        return b64decode("".join(text.split()), validate=True).decode()
    except ValueError:
        pass
    # Raised outside the handler: the error may hold the bytes.
    raise ConfigError(path, (ConfigFault(f"{field}.{DATA_KEY}", "not the base64 of UTF-8 text"),))
