"""A registry's `hosts.toml` (containerd's core/remotes/docker/config/hosts.go, docs/hosts.md)."""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from shimcore.errors import ShimError

FILE = "hosts.toml"
DEFAULT_FOLDER = "_default"
PULLING = frozenset({"pull", "resolve"})
_CAPABILITIES = PULLING | {"push", "referrers"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where containerd asks for a registry's images."""

    scheme: str
    host: str
    path: str = "/v2"
    ca_files: tuple[str, ...] = ()
    """Authorities beside the system's."""
    skip_verify: bool | None = None
    capabilities: frozenset[str] = _CAPABILITIES

    @property
    def url(self) -> str:
        """`https://host:port`."""
        return f"{self.scheme}://{self.host}"

    @property
    def pulls(self) -> bool:
        """Whether images are resolved and pulled there."""
        return self.capabilities >= PULLING

    @property
    def tries_https(self) -> bool:
        """Whether https is spoken, first if not alone.

        TLS settings beside a URL of plain http make containerd try https and fall back.
        """
        explicit = bool(self.ca_files) or self.skip_verify is not None
        return self.scheme == "https" or (explicit and not self.host.endswith(":80"))


def folders(directory: str, host: str) -> tuple[str, ...]:
    """Where a registry's folder may be, the first that is there counts (config_unix.go)."""
    name, colon, port = host.rpartition(":")
    with_port = (f"{name}_{port}_",) if colon and name else ()
    return tuple(posixpath.join(directory, each) for each in (*with_port, host, DEFAULT_FOLDER))


def parse_hosts(text: str, folder: str, own: Endpoint, *, needs_host: bool) -> tuple[Endpoint, ...]:
    """The endpoints in order; the last is `server`, or the registry's `own` where none is given.

    `needs_host`: containerd 1.x, which refuses a file without any `[host]` table.
    Raises ShimError for a file that containerd refuses.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ShimError(f"not TOML: {error}") from error
    tables = tree.get("host", {})
    if not isinstance(tables, dict) or (needs_host and not tables):
        raise ShimError('no `[host."URL"]` table')
    found = [_endpoint(url, _as_table(table), folder) for url, table in tables.items()]
    server = tree.get("server", "")
    if not isinstance(server, str):
        raise ShimError("`server`: a text expected")
    if server:
        return (*found, _endpoint(server, tree, folder))
    # ConfigureHosts sets all but the TLS of a server that is not named.
    given = _made(own.scheme, own.host, own.path, tree, folder)
    skip = given.skip_verify if own.skip_verify is None else own.skip_verify
    return (*found, replace(own, ca_files=given.ca_files, skip_verify=skip))


def _as_table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ShimError("`host`: tables expected")
    return value


def _endpoint(url: str, table: Mapping[str, Any], folder: str) -> Endpoint:
    """parseHostConfig: no scheme is https, `/v2` is added unless the path is overridden."""
    try:
        parts = urlsplit(url if url.startswith("http") else f"https://{url}")
    except ValueError as error:
        raise ShimError(f"{url}: {error}") from error
    path = posixpath.normpath(parts.path) if parts.path else ""
    if not table.get("override_path") and not path.endswith("/v2"):
        path = f"{path.rstrip('/')}/v2"
    return _made(parts.scheme, parts.netloc, path, table, folder)


def _made(scheme: str, host: str, path: str, table: Mapping[str, Any], folder: str) -> Endpoint:
    capabilities = frozenset(each.lower() for each in _texts(table, "capabilities"))
    if unknown := capabilities - _CAPABILITIES:
        raise ShimError(f"unknown capability {min(unknown)}")
    skip = table.get("skip_verify")
    if skip is not None and not isinstance(skip, bool):
        raise ShimError("`skip_verify`: true or false expected")
    authorities = tuple(posixpath.join(folder, each) for each in _texts(table, "ca"))
    return Endpoint(scheme, host, path, authorities, skip, capabilities or _CAPABILITIES)


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    """A text, or a list of texts."""
    value = table.get(key, [])
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ShimError(f"`{key}`: texts expected")
    return listed
