"""CRI-O: `registries.conf.d` for what is insecure, `certs.d` for authorities.

containers-registries.conf(5), containers-certs.d(5). Both are read again at a reload.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from shimcore.errors import ShimError
from shimcore.jsontext import value_at
from shimcore.runtime.containerd.route import Wanted, certificates
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.overlay import HEADER, NotOursError, Overlay
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.tomltext import string

CONFIG = "/etc/crio/crio.conf"
CONFIG_FOLDER = "/etc/crio/crio.conf.d"
MAIN = "/etc/containers/registries.conf"
FOLDER = "/etc/containers/registries.conf.d"
OURS = f"{FOLDER}/50-image-cri-shim.conf"
CERTS = "/etc/containers/certs.d"
DOCKER_CERTS = "/etc/docker/certs.d"
_LOOKED_IN = ("/root/.config/containers/certs.d", CERTS, DOCKER_CERTS)
CA_FILE = "image-cri-shim.crt"
RELOAD = "reload crio.service"


def wire(root: Root, told: Sequence[Wanted], ours: Collection[str]) -> list[Change]:
    """The changes after which CRI-O reaches the registries. Raises ShimError."""
    overlay = Overlay(root, Part.RUNTIME)
    insecure = [each for each in told if each.is_insecure and not _is_insecure(root, each, OURS)]
    # One that no record has may stay; written anew, it is to have all that it is needed for.
    stays = OURS not in ours and all(_is_insecure(root, each) for each in insecure)
    if insecure and not stays:
        overlay.put(OURS, HEADER + "\n".join(_entry(each.host) for each in insecure), RELOAD)
    for each in told:
        if each.ca_file:
            # It looks into the first that is there alone.
            there = (folder for folder in _LOOKED_IN if overlay.exists(f"{folder}/{each.host}"))
            add_authority(overlay, next(there, CERTS), each)
    return overlay.changes()


def add_authority(overlay: Overlay, directory: str, told: Wanted) -> None:
    """The registry's authorities in its folder, every `.crt` of which counts."""
    folder = f"{directory}/{told.host}"
    names = [name for name in overlay.names(folder) if name.endswith(".crt")]
    known = [overlay.text(f"{folder}/{name}") or "" for name in names]
    if certificates(told.ca) - certificates("".join(known)):
        overlay.put(f"{folder}/{CA_FILE}", told.ca)


def is_covered(host: str, listed: Sequence[str]) -> bool:
    """Whether the host is listed, or its address lies in a network that is (CIDR)."""
    if host in listed:
        return True
    with contextlib.suppress(ValueError):
        address = ip_address(urlsplit(f"//{host}").hostname or "")
        for each in listed:
            with contextlib.suppress(ValueError):
                if "/" in each and address in ip_network(each, strict=False):
                    return True
    return False


def _entry(host: str) -> str:
    return f"[[registry]]\nlocation = {string(host)}\ninsecure = true\n"


def _is_insecure(root: Root, told: Wanted, besides: str = "") -> bool:
    """Whether a file says so already, one left aside. Raises ShimError where it says otherwise.

    The entry with the longest prefix counts; one of a later file takes the place of an earlier one.
    """
    is_listed = is_covered(told.host, _listed(root))
    entries: dict[str, tuple[str, dict[str, Any]]] = {}
    for path, tree in _files(root, besides):
        old = tree.get("registries")
        if isinstance(old, dict):  # version 1 of the format, which does not stand beside version 2
            listed = value_at(old, "insecure", "registries")
            if is_listed or (isinstance(listed, list) and told.host in listed):
                return True
            addition = f"[registries.insecure]\nregistries = [{string(told.host)}]\n"
            raise NotOursError(f"{path} is of the old format", addition)
        registries = tree.get("registry")
        for each in registries if isinstance(registries, list) else ():
            if isinstance(each, dict):
                entries[str(each.get("prefix") or each.get("location"))] = path, each
    for prefix, (path, entry) in entries.items():
        blocked = entry.get("blocked") is True
        if prefix == told.host and blocked:
            raise NotOursError(f"{path} blocks {told.host}", "blocked = false\n")
        concerned = prefix == told.host or (prefix.startswith(f"{told.host}/") and not blocked)
        if concerned and not is_listed and entry.get("insecure") is not True:
            raise NotOursError(f"{path} has a [[registry]] for {prefix}", "insecure = true\n")
    return is_listed or told.host in entries


def _listed(root: Root) -> list[str]:
    """What CRI-O's own configuration lists; the last file that has the list counts.

    crio.conf(5): `insecure_registries`, which wins over registries.conf.
    """
    listed: list[str] = []
    drop_ins = (f"{CONFIG_FOLDER}/{name}" for name in root.names(CONFIG_FOLDER))
    for path in (CONFIG, *(each for each in drop_ins if root.host(each).is_file())):
        given = value_at(_tree(root, path), "crio", "image", "insecure_registries")
        if isinstance(given, list):
            listed = [each for each in given if isinstance(each, str)]
    return listed


def _files(root: Root, besides: str) -> Iterator[tuple[str, dict[str, Any]]]:
    names = [f"{FOLDER}/{name}" for name in root.names(FOLDER) if name.endswith(".conf")]
    for path in (MAIN, *names):
        if path != besides:
            yield path, _tree(root, path)


def _tree(root: Root, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(root.text(path) or "")
    except tomllib.TOMLDecodeError as error:
        raise ShimError(f"{path}: not TOML: {error}") from error
