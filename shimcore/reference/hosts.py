"""Registry hosts: which are the same, and which are public so that anyone can publish there."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from shimcore.reference.value import DOCKER_HUB

DOCKER_HUB_SERVER = "registry-1.docker.io"
"""The host that is asked for images of `docker.io` (containerd's `DefaultHost`)."""

DOCKER_HUB_ALIASES = frozenset(
    {DOCKER_HUB, "index.docker.io", DOCKER_HUB_SERVER, "registry.hub.docker.com"}
)
"""Hosts that serve Docker Hub's repositories."""

WELL_KNOWN_REGISTRIES = frozenset(
    {
        DOCKER_HUB,
        "*.gcr.io",
        "*.icr.io",
        "*.pkg.dev",
        "ccr.ccs.tencentyun.com",
        "cgr.dev",
        "codeberg.org",
        "container-registry.oracle.com",
        "docker.elastic.co",
        "docker.pkg.github.com",
        "gcr.io",
        "ghcr.io",
        "icr.io",
        "k8s.gcr.io",
        "lscr.io",
        "mcr.microsoft.com",
        "mirror.gcr.io",
        "nvcr.io",
        "public.ecr.aws",
        "quay.io",
        "registry.*.aliyuncs.com",
        "registry.access.redhat.com",
        "registry.connect.redhat.com",
        "registry.fedoraproject.org",
        "registry.gitlab.com",
        "registry.k8s.io",
        "registry.opensuse.org",
        "registry.redhat.io",
        "registry.suse.com",
        "swr.*.myhuaweicloud.com",
    }
)
"""Public registries, `*` for any characters; each serves only its own domain by default.

Anyone may register `org/app` at one of these, so asking it for `quay.io/org/app` would
let a stranger's image stand in for the wanted one (dependency confusion).
"""

_DEFAULT_PORTS = (":443", ":80")


@lru_cache(maxsize=1024)
def normalised_host(host: str) -> str:
    """`host` for comparison: lower case, no default port, Docker Hub's hosts as `docker.io`."""
    lowered = host.lower()
    for port in _DEFAULT_PORTS:
        lowered = lowered.removesuffix(port)
    return DOCKER_HUB if lowered in DOCKER_HUB_ALIASES else lowered


def is_docker_hub(host: str) -> bool:
    """True for each host that serves Docker Hub."""
    return normalised_host(host) == DOCKER_HUB


@lru_cache(maxsize=1024)
def is_well_known(host: str) -> bool:
    """True when `host` is one of WELL_KNOWN_REGISTRIES."""
    plain = normalised_host(host)
    return any(fnmatchcase(plain, pattern) for pattern in WELL_KNOWN_REGISTRIES)
