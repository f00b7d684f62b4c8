"""What containerd's main configuration says of registries (config.toml and its imports).

Versions 1 to 4 of the file; the plugin's section is `cri`, `io.containerd.grpc.v1.cri` from
version 2 on, and `io.containerd.cri.v1.images` from version 3 on. 1.x reads every file by the
version of the whole; 2.x moves what is older, up to 2.2 in the whole, then in each file.
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

# What 2.x moves from CRI_V2 to CRI_V3 of what counts here, and what from `containerd` in it, where
# that has runtimes: plugins/cri/images/plugin.go, migrateConfig.
_MOVED = ("registry", "max_concurrent_downloads", "image_pull_with_sync_fs")
_MOVED_WITH_RUNTIMES = ("disable_snapshot_annotations", "discard_unpacked_layers")
# (key, the value with which pulls go by the transfer service): internal/cri/config/config.go,
# CheckLocalImagePullConfigs.
_LOCAL_PULL = (
    ("use_local_image_pull", False),
    ("disable_snapshot_annotations", True),
    ("discard_unpacked_layers", False),
    ("max_concurrent_downloads", 3),
    ("image_pull_with_sync_fs", False),
)


_Trees = Mapping[str, Mapping[str, Any]]
"""Files as they are read: path → tables, each merged over those before it."""


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
    version: int = 0
    """The newest version of a file; 0 where none says it."""
    given_config_path: str = ""
    """`config_path` as it is written; "" where it is unset."""
    section_file: str = ""
    """Where registries are described, or may be; 1.x takes a plugin's section from one file."""
    section: str = ""
    """The plugin's section in it that counts."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inline `mirrors`: host → endpoints."""
    tls: Mapping[str, InlineTls] = field(default_factory=dict)
    """Inline `configs.*.tls`, which 2.x does not know."""
    local_pull: bool = True
    """Whether the CRI plugin pulls itself; then `config_path` may list several directories."""

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


def read_settings(
    files: Files, path: str, release: Release, *, laid_over: int = 0
) -> RegistrySettings:
    """The settings of the containerd that starts with the file at `path`.

    `laid_over` is the version of what the file is laid over; 0 for nothing. Raises ShimError for
    a file that containerd could not start with.
    """
    read = _read(files, path)
    if laid_over and path in read:
        read[path].setdefault("version", laid_over)
    plugin, section_file, section = _of_1(read) if release.is_v1 else _of_2(read, release)
    registry = _table(plugin, "registry")
    given = registry.get("config_path")
    return RegistrySettings(
        release=release,
        files=tuple(read),
        version=max(map(_version, read.values()), default=0),
        given_config_path=given if isinstance(given, str) else "",
        section_file=section_file,
        section=section,
        mirrors=_mirrors(registry),
        tls=_tls(registry) if release.is_v1 else {},
        local_pull=not release.has_transfer or _pulls_locally(plugin, registry),
    )


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


def _of_1(read: _Trees) -> tuple[dict[str, Any], str, str]:
    """The plugin in 1.x, where its section is, and what that is called (config.go, mergeConfig).

    The last section is the whole of it; its name goes by the last version that a file says.
    """
    version = next((said for tree in reversed([*read.values()]) if (said := _version(tree))), 1)
    section = CRI_V1 if version == 1 else CRI_V2
    found = next(iter(read), "")
    for name, tree in read.items():
        plugins = _table(tree, "plugins")
        if version > 1 and CRI_V1 in plugins:
            raise ShimError(
                f"{name}: `plugins.cri` in version {version}: containerd does not start"
            )
        found = name if section in plugins else found
    return _table(_table(read.get(found, {}), "plugins"), section), found, section


def _of_2(read: _Trees, release: Release) -> tuple[dict[str, Any], str, str]:
    """The plugin in 2.x, merged key by key; the last file that tells of registries, its section.

    Up to 2.2 a file of version 1 becomes one of the version before it, 3 for the first, and older
    sections are moved once, by the last version (config.go, LoadConfig; server.go).
    """
    each = release is Release.V2_3
    plugins: dict[str, Any] = {}
    found, section = "", CRI_V3
    for names in [[name] for name in read] if each else [list(read)]:
        together: dict[str, Any] = {}
        for name in names:
            together = _merged(together, _renamed(read[name]))
        versions = [_version(read[name]) for name in reversed(names)]
        version = versions[0] if each else next((one for one in versions if one > 1), 3)
        moves = version < (4 if each else 3)
        for name in names:
            if not found or _tells(_renamed(read[name]), moves):
                found, section = name, _section(read[name], together) if moves else CRI_V3
        plugins = _merged(plugins, _moved(together) if moves else together)
    return _table(plugins, CRI_V3), found, section


def _section(tree: Mapping[str, Any], together: Mapping[str, Any]) -> str:
    """The section of a file whose registries count where older ones are moved.

    `together` has all plugins that are moved at once: registries of CRI_V2 replace others.
    """
    older = "registry" in _table(together, CRI_V2)
    if not older and ("registry" in _table(together, CRI_V3) or _version(tree) > 2):
        return CRI_V3
    return CRI_V1 if _version(tree) < 2 and CRI_V2 not in _table(tree, "plugins") else CRI_V2


def _tells(plugins: Mapping[str, Any], moves: bool) -> bool:
    """Whether registries are described in a section that counts."""
    sections = (CRI_V2, CRI_V3) if moves else (CRI_V3,)
    found = [_table(_table(plugins, section), "registry") for section in sections]
    return any("config_path" in each or _mirrors(each) for each in found)


def _renamed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A file's plugins with their names since version 2 (config.go, v1Migrate)."""
    plugins = dict(_table(tree, "plugins"))
    if _version(tree) < 2 and CRI_V1 in plugins:
        plugins[CRI_V2] = plugins.pop(CRI_V1)
    return plugins


def _moved(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Plugins with what CRI_V2 says of images moved to CRI_V3."""
    older = _table(plugins, CRI_V2)
    runtime = _table(older, "containerd")
    moved = {key: older[key] for key in _MOVED if key in older}
    if "runtimes" in runtime:
        moved |= {key: runtime[key] for key in _MOVED_WITH_RUNTIMES if key in runtime}
    return {**plugins, CRI_V3: {**_table(plugins, CRI_V3), **moved}}


def _version(tree: Mapping[str, Any]) -> int:
    """0 where the file does not say it."""
    version = tree.get("version")
    return version if isinstance(version, int) else 0


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
    return any(plugin.get(key, usual) != usual for key, usual in _LOCAL_PULL)


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
