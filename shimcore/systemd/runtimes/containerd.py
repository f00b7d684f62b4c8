"""containerd: a `hosts.toml` for each registry, and `config_path` where it is unset."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from shimcore.errors import ShimError
from shimcore.runtime.containerd.hosts import DEFAULT_FOLDER, FILE, folders
from shimcore.runtime.containerd.release import Release
from shimcore.runtime.containerd.route import Reason, Verdict, Wanted, judge, route
from shimcore.runtime.containerd.settings import (
    CRI_V2,
    CRI_V3,
    DEFAULT_FILE,
    Files,
    RegistrySettings,
    read_settings,
)
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.edits import SpliceEdit
from shimcore.systemd.overlay import HEADER, NotOursError, Overlay
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes import tomltext

CERTS = "/etc/containerd/certs.d"


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd: the file that it starts with, its release, the unit to restart."""

    config_file: str
    release: Release
    unit: str
    generated: bool = False
    """Whether the file is written anew at each start, so that it is not to be changed."""
    laid_over: int = 0
    """The version of the configuration that the file is laid over; 0 for none."""


def wire(
    root: Root, containerd: Containerd, told: Sequence[Wanted], ours: Collection[str]
) -> list[Change]:
    """The changes after which containerd reaches the registries as they are configured.

    `ours` are the files that an installation wrote. Raises ShimError.
    """
    overlay = Overlay(root, Part.RUNTIME)
    settings = settings_of(overlay, containerd)
    missing = [each for each in told if not _fits(overlay, settings, each)]
    if not missing:
        return []
    if settings.is_inline and settings.given_config_path:
        raise ShimError(
            f"{containerd.config_file}: both config_path and mirrors or configs.*.tls are set, "
            "with which containerd refuses its CRI plugin; remove one"
        )
    if settings.is_inline:
        for each in missing:
            _extend(overlay, containerd, settings, each)
    else:
        directory = _directory(overlay, containerd, settings)
        for each in missing:
            _write_hosts(overlay, settings_of(overlay, containerd), directory, each, ours)
    after = settings_of(overlay, containerd)
    for each in missing:
        if not _fits(overlay, after, each):
            raise ShimError(
                f"{containerd.config_file}: after every change containerd still would not reach "
                f"{each.address}: {judge(overlay, route(overlay, after, each.host), each)}"
            )
    return overlay.changes()


def settings_of(files: Files, containerd: Containerd) -> RegistrySettings:
    """What it is told of registries. Raises ShimError."""
    path, release = containerd.config_file, containerd.release
    return read_settings(files, path, release, laid_over=containerd.laid_over)


def _fits(files: Files, settings: RegistrySettings, told: Wanted) -> bool:
    return judge(files, route(files, settings, told.host), told) is Verdict.FITS


def _directory(overlay: Overlay, containerd: Containerd, settings: RegistrySettings) -> str:
    """Where the registries' folders are; set in containerd's configuration where it is not."""
    if settings.directories and not settings.is_list_taken_as_one:
        return settings.directories[0]
    directory = settings.given_config_path.partition(":")[0] or CERTS
    if not settings.files:
        version, section = (2, CRI_V2) if containerd.release.is_v1 else (3, CRI_V3)
        table = ("plugins", section, "registry")
        text = tomltext.table_text(table, {"config_path": directory})
        whole = f"{HEADER}version = {version}\n\n{text}"
        overlay.put(containerd.config_file, whole, f"restart {containerd.unit}")
        return directory
    path, table = settings.section_file, ("plugins", settings.section, "registry")
    edit = None
    if not containerd.generated:
        edit = tomltext.set_value(overlay.text(path) or "", table, "config_path", directory)
    addition = tomltext.table_text(table, {"config_path": directory})
    if edit is None:
        raise NotOursError(f"{path}: config_path is not set, and is to be set by hand", addition)
    _edit(overlay, containerd, path, edit, addition)
    return directory


def _edit(
    overlay: Overlay, containerd: Containerd, path: str, edit: SpliceEdit, addition: str
) -> None:
    """Change containerd's own configuration, which may belong to an image of the system."""
    try:
        overlay.edit(path, edit, addition, f"restart {containerd.unit}")
    except NotOursError as error:
        if not path.startswith("/usr/"):
            raise
        reason = (
            f"{error.reason}; copy it to {DEFAULT_FILE}, have a drop-in of {containerd.unit} start "
            "containerd with that, and restart it"
        )
        raise NotOursError(reason, addition) from error


def _write_hosts(
    overlay: Overlay,
    settings: RegistrySettings,
    directory: str,
    told: Wanted,
    ours: Collection[str],
) -> None:
    known = [each for each in folders(directory, told.host) if not each.endswith(DEFAULT_FOLDER)]
    folder = next((each for each in known if overlay.exists(each)), known[-1])
    path = posixpath.join(folder, FILE)
    text = overlay.text(path)
    values = _values(told)
    if text and path not in ours:
        table = ("host", told.address)
        edit, addition = None, tomltext.table_text(table, values)
        if route(overlay, settings, told.host).fault in ("", 'no `[host."URL"]` table'):
            edit = tomltext.add_table(text, table, values)
        if edit is None:
            raise NotOursError(f"{path} is somebody else's", addition)
        overlay.edit(path, edit, addition)
        return
    way = route(overlay, settings, told.host)
    if way.reason is Reason.CERTIFICATES and way.file == folder:
        # Beside a hosts.toml containerd does not look at them.
        beside = [each for endpoint in way.endpoints for each in endpoint.ca_files]
        if beside and not told.is_http:
            values["ca"] = [*beside, *([told.ca_file] if told.ca_file else [])]
    server = f"server = {tomltext.string(told.address)}\n\n"
    overlay.put(path, HEADER + server + tomltext.table_text(("host", told.address), values))


def _values(told: Wanted) -> dict[str, Any]:
    values: dict[str, Any] = {"capabilities": ["pull", "resolve"]}
    if told.ca_file:
        values["ca"] = told.ca_file
    if told.skip_verify:
        values["skip_verify"] = True
    return values


def tls_of(told: Wanted) -> dict[str, Any]:
    """What `configs.*.tls` has of the registry, in containerd 1.x and in registries.yaml."""
    if told.ca_file:
        return {"ca_file": told.ca_file}
    return {"insecure_skip_verify": True} if told.skip_verify else {}


def _extend(
    overlay: Overlay, containerd: Containerd, settings: RegistrySettings, told: Wanted
) -> None:
    """The registry in the form of the others: `mirrors`, and `configs.*.tls` (1.x)."""
    path, table = settings.section_file, ("plugins", settings.section, "registry")
    tables: dict[tuple[str, ...], dict[str, Any]] = {}
    if told.is_http:
        tables[(*table, "mirrors", told.host)] = {"endpoint": [told.address]}
    if tls := tls_of(told):
        tables[(*table, "configs", told.host, "tls")] = tls
    addition = "\n".join(tomltext.table_text(name, values) for name, values in tables.items())
    reason = f"{path}: registries are described in it, so config_path cannot be set"
    if not containerd.release.is_v1 and not told.is_http:
        addition = tomltext.table_text(("host", told.address), _values(told))
        raise NotOursError(f"{reason}; move them to hosts.toml files, which 2.x needs", addition)
    if containerd.generated:
        raise NotOursError(f"{reason}; move them to hosts.toml files, or here", addition)
    for name, values in tables.items():
        edit = tomltext.add_table(overlay.text(path) or "", name, values)
        if edit is None:
            raise NotOursError(reason, addition)
        _edit(overlay, containerd, path, edit, addition)
