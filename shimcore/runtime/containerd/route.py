"""How containerd reaches a registry, and whether that is the way that is wanted."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address

from shimcore.errors import ShimError
from shimcore.reference import DOCKER_HUB, DOCKER_HUB_SERVER
from shimcore.runtime.containerd.hosts import (
    FILE,
    Endpoint,
    folders,
    parse_hosts,
)
from shimcore.runtime.containerd.settings import Files, InlineTls, RegistrySettings

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


class Reason(StrEnum):
    """What decides the way to a registry."""

    HOSTS_FILE = "hosts.toml"
    REFUSED_HOSTS_FILE = "hosts.toml that containerd refuses"
    """It goes on as if there were only the certificates beside the file."""
    CERTIFICATES = "certificates in the registry's folder"
    INLINE = "mirrors or configs in containerd's configuration"
    LOOPBACK = "an address of this node itself"
    NO_CONFIG_PATH = "config_path is not set"
    LIST_AS_ONE = "the default config_path is taken for one directory"
    NO_FOLDER = "config_path has no folder for the registry"


class Verdict(StrEnum):
    """Whether containerd's way to a registry is the configured one."""

    FITS = "fits"
    HTTPS_FOR_HTTP = "https is spoken to a registry of plain http"
    HTTP_FOR_HTTPS = "plain http is spoken to a registry of https"
    CA_MISSING = "the registry's authority is not known to containerd"
    VERIFIES = "the certificate is verified, which the configuration says not to"
    NO_PULL = "nothing may be pulled from the registry itself"


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoints that containerd asks for a registry's images, in order, and why these."""

    endpoints: tuple[Endpoint, ...]
    reason: Reason
    file: str = ""
    """The file or folder that decided."""
    fault: str = ""
    """Why containerd refuses the file."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a registry has to be reached."""

    scheme: str
    host: str
    """As it stands in names of images."""
    ca: str = ""
    """Text of its own authorities (PEM); "" for the system's."""
    skip_verify: bool = False
    address: str = ""
    """Its URL, where a runtime is to be told of it."""
    ca_file: str = ""
    """Where its authorities are; "" for none of its own."""

    @property
    def needs_setting(self) -> bool:
        """Whether a runtime that nobody told anything does not reach it."""
        return (self.is_insecure or bool(self.ca)) and not is_loopback(self.host)

    @property
    def is_http(self) -> bool:
        """Whether it speaks plain http."""
        return self.scheme == "http"

    @property
    def is_insecure(self) -> bool:
        """Whether a runtime that has one word for both has to take anything."""
        return self.is_http or self.skip_verify


def route(files: Files, settings: RegistrySettings, host: str) -> Route:
    """What containerd does for images whose registry is `host`. Raises ShimError."""
    if settings.is_inline and not settings.given_config_path:
        return _inline(settings, host)
    for directory in settings.directories:
        for folder in folders(directory, host):
            if files.exists(folder):
                return _from_folder(files, settings, folder, host)
    if is_loopback(host):
        return Route((default_endpoint(host),), Reason.LOOPBACK)
    reason = Reason.NO_FOLDER
    if not settings.config_path:
        reason = Reason.NO_CONFIG_PATH
    elif settings.is_list_taken_as_one:
        reason = Reason.LIST_AS_ONE
    return Route((default_endpoint(host),), reason)


def judge(files: Files, way: Route, wanted: Wanted) -> Verdict:
    """Whether the way leads to the registry as it is configured; of its own endpoint.

    Another endpoint before it, a mirror, is nobody's fault. Raises ShimError.
    """
    server = _server(wanted.host)
    own = [each for each in way.endpoints if _same_host(each, wanted.scheme, server)]
    pulling = [each for each in own if each.pulls]
    if not pulling:
        if not own and any(each.pulls for each in way.endpoints[:-1]):
            return Verdict.FITS  # other endpoints stand for it
        return Verdict.NO_PULL
    found = [_judged(files, each, wanted) for each in pulling]
    return Verdict.FITS if Verdict.FITS in found else found[0]


def default_endpoint(host: str) -> Endpoint:
    """Where containerd asks by itself; at an address of the node's own https or http."""
    if is_loopback(host):
        return Endpoint("http", host, skip_verify=None if host.endswith(":80") else True)
    return Endpoint("https", _server(host))


def is_loopback(host: str) -> bool:
    """Whether containerd takes the host for the node itself (registry.go, MatchLocalhost)."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) and host != "::1" else host
    name = name.strip("[]")
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def certificates(pem: str) -> frozenset[str]:
    """The certificates in a text, so that two texts can be compared."""
    return frozenset("".join(each.split()) for each in _PEM.findall(pem))


def _from_folder(files: Files, settings: RegistrySettings, folder: str, host: str) -> Route:
    path = posixpath.join(folder, FILE)
    text = files.text(path)
    if not text:
        return Route((_by_certificates(files, folder, host),), Reason.CERTIFICATES, folder)
    try:
        own, needs_host = default_endpoint(host), settings.release.is_v1
        endpoints = parse_hosts(text, folder, own, needs_host=needs_host)
    except ShimError as error:
        used = _by_certificates(files, folder, host)
        return Route((used,), Reason.REFUSED_HOSTS_FILE, path, str(error))
    return Route(endpoints, Reason.HOSTS_FILE, path)


def _by_certificates(files: Files, folder: str, host: str) -> Endpoint:
    """Docker's layout: every `.crt` is an authority (hosts.go, loadCertFiles)."""
    own = default_endpoint(host)
    names = [name for name in files.names(folder) if name.endswith(".crt")]
    return replace(own, ca_files=tuple(posixpath.join(folder, name) for name in names))


def _inline(settings: RegistrySettings, host: str) -> Route:
    """`mirrors` and `configs.*.tls` (image_pull.go, registryEndpoints)."""
    listed = settings.mirrors.get(host, settings.mirrors.get("*", ()))
    endpoints = [_mirror(each) for each in listed]
    if all(each.host != host for each in endpoints):
        endpoints.append(default_endpoint(host))
    endpoints = [_with_tls(each, settings.tls.get(each.host)) for each in endpoints]
    return Route(tuple(endpoints), Reason.INLINE, settings.section_file)


def _mirror(address: str) -> Endpoint:
    scheme, separator, rest = address.rpartition("://")
    host = rest.partition("/")[0]
    return Endpoint(scheme, host) if separator else default_endpoint(host)


def _with_tls(endpoint: Endpoint, tls: InlineTls | None) -> Endpoint:
    if tls is None:
        return endpoint
    authorities = (tls.ca_file,) if tls.ca_file else ()
    skip = True if tls.insecure_skip_verify else endpoint.skip_verify
    return replace(endpoint, ca_files=authorities, skip_verify=skip)


def _judged(files: Files, endpoint: Endpoint, wanted: Wanted) -> Verdict:
    if wanted.scheme == "http":
        return Verdict.FITS if endpoint.scheme == "http" else Verdict.HTTPS_FOR_HTTP
    if not endpoint.tries_https:
        return Verdict.HTTP_FOR_HTTPS
    if endpoint.skip_verify:
        return Verdict.FITS
    if wanted.skip_verify:
        return Verdict.VERIFIES
    known = [files.text(path) or "" for path in endpoint.ca_files] if wanted.ca else []
    missing = certificates(wanted.ca) - certificates("".join(known))
    return Verdict.CA_MISSING if missing else Verdict.FITS


def _same_host(endpoint: Endpoint, scheme: str, host: str) -> bool:
    wanted = _with_port(scheme, host)
    return wanted in (_with_port(scheme, endpoint.host), _with_port(endpoint.scheme, endpoint.host))


def _with_port(scheme: str, host: str) -> str:
    if re.search(r":\d+$", host):
        return host.lower()
    return f"{host.lower()}:{443 if scheme == 'https' else 80}"


def _server(host: str) -> str:
    return DOCKER_HUB_SERVER if host == DOCKER_HUB else host
