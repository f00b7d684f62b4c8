"""The name that an image has on a registry, and the images that keep their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from struct import Struct

from shimcore.errors import ReferenceSyntaxError
from shimcore.reference.hosts import is_well_known, normalised_host
from shimcore.reference.parsing import parse_reference, valid_path
from shimcore.reference.patterns import Patterns
from shimcore.reference.value import DOCKER_HUB, Reference

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_GROUPS = Struct("!8H")
_DOMAIN = re.compile(r"(?P<host>\[(?P<ipv6>[^\]]*)\]|[^:]*)(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Mirror:
    """How one registry maps images to its repositories.

    `path_template` knows `{path}` and `{domain}`. `domains` are the source domains
    that it serves: exact, with `*` wildcards, or `*` alone for every one; None is the
    default rule: all, but a well-known public registry only its own.
    """

    host: str
    path_template: str = "{path}"
    domains: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.domains is not None:
            _domains(self.domains)  # when a configuration is read, and not at the first image


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Why an image has no name on a registry."""

    reason: str


def rewrite(image: Reference, mirror: Mirror) -> Reference | Unmapped:
    """The candidate: the mirror's host, the templated path, tag and digest unchanged.

    In a template, `{domain}` is the domain in lower case, made legal as a path
    component so that no two domains meet: a port is set off by `_`, which no host has
    (`host:5000` → `host_5000`), and an IPv6 host is its eight groups joined by `_`
    (`[::1]:5000` → `0_0_0_0_0_0_0_1_5000`). What has no legal name is Unmapped.
    """
    if not serves(mirror, image.domain):
        return Unmapped(f"{mirror.host} does not serve images of {image.domain}")
    path = mirror.path_template
    if "{domain}" in path:
        component = domain_component(image.domain)
        if component is None:
            return Unmapped(f"{image.domain} cannot be a part of a repository path")
        path = path.replace("{domain}", component)
    path = path.replace("{path}", image.path)
    candidate = Reference(mirror.host, path, image.tag, image.digest)
    return _readable(candidate)


def _readable(candidate: Reference) -> Reference | Unmapped:
    """The candidate, if a runtime that parses its text understands the same by it."""
    try:
        understood = parse_reference(str(candidate))
    except ReferenceSyntaxError as error:
        return Unmapped(f"{candidate} is not a legal name: {error.reason}")
    if understood.name != candidate.name:
        return Unmapped(f"{candidate} would be read as {understood}")
    return candidate


def serves(mirror: Mirror, domain: str) -> bool:
    """True when the mirror may have images of this source domain (see Mirror.domains)."""
    wanted = normalised_host(domain)
    if mirror.domains is None:
        return not is_well_known(mirror.host) or wanted == normalised_host(mirror.host)
    if not mirror.domains.isdisjoint((domain, wanted)):
        return True
    return _domains(mirror.domains).first((wanted,)) is not None


@lru_cache(maxsize=1024)
def _domains(domains: frozenset[str]) -> Patterns:
    return Patterns(map(normalised_host, domains)).ready()


@lru_cache(maxsize=1024)
def domain_component(domain: str) -> str | None:
    """`domain` as one legal path component, another for every domain; None if it has none."""
    parts = _DOMAIN.fullmatch(domain)
    if not parts:
        return None
    host = parts["host"].lower()
    if parts["ipv6"] is not None:
        try:
            groups = _GROUPS.unpack(IPv6Address(parts["ipv6"]).packed)
        except AddressValueError:
            return None
        host = "_".join(f"{group:x}" for group in groups)
    component = f"{host}_{parts['port']}" if parts["port"] else host
    return component if valid_path(component) and "/" not in component else None


def template_fault(template: str) -> str | None:
    """What is wrong with a path template; None when nothing is.

    `{path}` has to be in it: without it every image would get the same name.
    """
    unknown = sorted(set(_PLACEHOLDER.findall(template)) - {"path", "domain"})
    if unknown:
        return f"only {{path}} and {{domain}} are known, not {{{unknown[0]}}}"
    if "{path}" not in template:
        return "{path} is missing, so every image would get the same name"
    sample = template.replace("{path}", "p").replace("{domain}", "d")
    if not valid_path(sample):
        return "this makes no repository path: lower-case components, separated by single slashes"
    return None


def is_excluded(image: Reference, patterns: Sequence[str]) -> str | None:
    """The first pattern that the image matches, or None.

    A pattern is a glob (`*`, `?`, `[…]`, case-sensitive; `*` crosses slashes) that has to
    match all of one form of the image: canonical (`docker.io/library/nginx:latest`), its
    name alone (`docker.io/library/nginx`), familiar (`nginx:latest`, `nginx`), or familiar
    with its domain (`docker.io/nginx`). A plain domain (`quay.io`) matches all its images.
    """
    listed = patterns if isinstance(patterns, Patterns) else Patterns(patterns)
    return listed.first(_forms(image), image.domain)


def _forms(image: Reference) -> tuple[str, ...]:
    forms = (str(image), image.name)
    if image.domain != DOCKER_HUB:
        return forms  # the familiar ones are the same
    short = (image.familiar, image.familiar_name)
    return (*forms, *short, *(f"{DOCKER_HUB}/{form}" for form in short))
