"""What containerd's main configuration says of registries (config.toml and its imports).

Versions 1 to 4 of the file; the plugin's section is `cri`, `io.containerd.grpc.v1.cri` from
version 2 on, and `io.containerd.cri.v1.images` from version 3 on.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from shimcore.errors import ShimError
from shimcore.runtime.containerd.release import Release

DEFAULT_FILE = "/etc/containerd/config.toml"
DEFAULT_CONFIG_PATH = "/etc/containerd/certs.d:/etc/docker/certs.d"
"""What 2.x takes for `config_path` where neither that nor `mirrors` is set."""

CRI_V1 = "cri"
CRI_V2 = "io.containerd.grpc.v1.cri"
CRI_V3 = "io.containerd.cri.v1.images"

# (key, the value with which pulls go by the transfer service): internal/cri/config/config.go,
# CheckLocalImagePullConfigs.
_LOCAL_PULL = (
    ("use_local_image_pull", False),
    ("disable_snapshot_annotations", True),
    ("discard_unpacked_layers", False),
    ("max_concurrent_downloads", 3),
    ("image_pull_with_sync_fs", False),
)


class Files(Protocol):
    """Files by absolute path; `shimcore.systemd.root.Root` is one."""

    def text(self, path: str) -> str | None:
        """The file's text; None when there is no such file. Raises ShimError."""

    def names(self, path: str) -> Iterable[str]:
        """The names in a directory, sorted; none when it is not there."""

    def exists(self, path: str) -> bool:
        """Whether anything is there."""


@dataclass(frozen=True, slots=True)
class InlineTls:
    """`registry.configs."HOST".tls`."""

    ca_file: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The registry section in force, imports included."""

    release: Release
    files: tuple[str, ...] = ()
    """What was read, the main file first; none: containerd runs on its defaults."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """The version of each file."""
    given_config_path: str = ""
    """`config_path` as it is written; "" where it is unset."""
    config_path_file: str = ""
    """Where it is written."""
    section_file: str = ""
    """Where `config_path` belongs: 1.x takes the CRI plugin's whole section from one file."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inline `mirrors`: host → endpoints."""
    tls: Mapping[str, InlineTls] = field(default_factory=dict)
    """Inline `configs.*.tls`."""
    inline_files: tuple[str, ...] = ()
    """The files that have either of them."""
    local_pull: bool = True
    """Whether the CRI plugin pulls itself; then `config_path` may list several directories."""
    misplaced: tuple[str, ...] = ()
    """Files with a `config_path` in a section that their version does not read."""

    @property
    def is_inline(self) -> bool:
        """Whether registries are described in the configuration itself.

        containerd refuses its CRI plugin when `config_path` is set beside these.
        """
        return bool(self.mirrors or self.tls)

    @property
    def config_path(self) -> str:
        """`config_path` in force; "" for none."""
        if self.given_config_path or self.release.is_v1 or self.mirrors:
            return self.given_config_path
        return DEFAULT_CONFIG_PATH

    @property
    def directories(self) -> tuple[str, ...]:
        """Where a registry's folder is looked for, in this order.

        The transfer service takes the whole of `config_path` for one directory (seen on 2.4.2),
        so that its default, two of them, is none that exists.
        """
        if self.local_pull:
            return tuple(part for part in self.config_path.split(":") if part)
        return (self.config_path,) if self.config_path else ()

    @property
    def is_list_taken_as_one(self) -> bool:
        """Whether nothing is found for that reason."""
        return not self.local_pull and ":" in self.config_path


def read_settings(files: Files, path: str, release: Release) -> RegistrySettings:
    """The settings of the containerd that starts with the file at `path`.

    Raises ShimError for a file that containerd could not start with.
    """
    read = _read(files, path)
    plugin: dict[str, Any] = {}
    config_path_file, section_file = "", next(iter(read), "")
    inline, misplaced = [], []
    for name, tree in read.items():
        section, others = _sections(tree)
        registry = _table(section, "registry")
        if registry.get("config_path"):
            config_path_file = name
        if section and (release.is_v1 or registry.get("config_path")):
            section_file = name
        if _mirrors(registry) or _tls(registry):
            inline.append(name)
        if any(_table(other, "registry").get("config_path") for other in others):
            misplaced.append(name)
        # 1.x: a plugin's whole section replaces that of the file before.
        plugin = dict(section) if release.is_v1 and section else _merged(plugin, section)
    registry = _table(plugin, "registry")
    given = registry.get("config_path")
    return RegistrySettings(
        release=release,
        files=tuple(read),
        versions={name: _version(tree) for name, tree in read.items()},
        given_config_path=given if isinstance(given, str) else "",
        config_path_file=config_path_file if given else "",
        section_file=section_file,
        mirrors=_mirrors(registry),
        tls=_tls(registry),
        inline_files=tuple(inline),
        local_pull=release is not Release.V2 or _pulls_locally(plugin, registry),
        misplaced=tuple(misplaced),
    )


def section_of(version: int) -> str:
    """The plugin section that has `registry` in a file of this version."""
    if version >= 3:
        return CRI_V3
    return CRI_V2 if version == 2 else CRI_V1


def _read(files: Files, path: str) -> dict[str, dict[str, Any]]:
    """Every file, in the order in which each is merged over those before it."""
    found: dict[str, dict[str, Any]] = {}
    pending = [path]
    while pending:
        name = pending.pop(0)
        if name in found:
            continue
        text = files.text(name)
        if text is None and name == path:
            return {}
        if text is None:
            raise ShimError(f"{path}: imports {name}, which is not there")
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ShimError(f"{name}: not TOML: {error}") from error
        found[name] = tree
        imports = tree.get("imports")
        for each in imports if isinstance(imports, list) else ():
            if isinstance(each, str):
                pending += _imported(files, name, each)
    return found


def _imported(files: Files, parent: str, pattern: str) -> list[str]:
    """The files that an entry of `imports` means (config.go, resolveImports)."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(parent), pattern))
    if "*" not in path:
        return [path]
    found = ["/"]
    for part in path.strip("/").split("/"):
        if re.search(r"[*?\[]", part):
            found = [
                posixpath.join(folder, name)
                for folder in found
                for name in files.names(folder)
                if fnmatchcase(name, part)
            ]
        else:
            found = [posixpath.join(folder, part) for folder in found]
    return [each for each in found if files.exists(each)]


def _sections(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The plugin section that counts, and those of other versions."""
    plugins = _table(tree, "plugins")
    wanted = section_of(_version(tree))
    others = [name for name in (CRI_V2, CRI_V3) if name != wanted]
    return _table(plugins, wanted), [_table(plugins, name) for name in others]


def _version(tree: Mapping[str, Any]) -> int:
    version = tree.get("version")
    return version if isinstance(version, int) and version > 0 else 1


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, other values replaced."""
    result = dict(old)
    for key, value in new.items():
        known = result.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        result[key] = _merged(known, value) if both else value  # type: ignore[arg-type]
    return result


def _pulls_locally(plugin: Mapping[str, Any], registry: Mapping[str, Any]) -> bool:
    if any(registry.get(key) for key in ("mirrors", "configs", "auths")):
        return True
    runtime = _table(plugin, "containerd")  # where version 2 has some of them
    return any(
        table.get(key, usual) != usual for table in (plugin, runtime) for key, usual in _LOCAL_PULL
    )


def _mirrors(registry: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for host, mirror in _table(registry, "mirrors").items():
        endpoints = mirror.get("endpoint") if isinstance(mirror, dict) else None
        listed = endpoints if isinstance(endpoints, list) else []
        found[host] = tuple(each for each in listed if isinstance(each, str))
    return found


def _tls(registry: Mapping[str, Any]) -> dict[str, InlineTls]:
    found = {}
    for host, config in _table(registry, "configs").items():
        tls = config.get("tls") if isinstance(config, dict) else None
        if isinstance(tls, dict):
            ca, skip = tls.get("ca_file"), tls.get("insecure_skip_verify")
            found[host] = InlineTls(ca if isinstance(ca, str) else "", skip is True)
    return found


def _table(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
