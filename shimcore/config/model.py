"""The configuration as values: frozen, validated, with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shimcore.reference import Mirror, Patterns

ANY_HOST = Patterns(("*",))

CLUSTER_NAMESPACE, CLUSTER_NAME = "kube-system", "image-cri-shim"
"""Where the ConfigMap and the Secret are, unless something else is said."""


class Names(StrEnum):
    """Which names an image has after a pull through a registry."""

    ORIGINAL = "original"
    BOTH = "both"
    REGISTRY = "registry"


class Fallback(StrEnum):
    """Whether the original name may be pulled when no registry has the image."""

    ALLOW = "allow"
    DENY = "deny"


class OnFailure(StrEnum):
    """What serves the socket when the shim cannot start."""

    BYPASS = "bypass"
    """The runtime itself: bytes are passed as they are."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A login; `""` is a part that is not there. Its text never shows any of it."""

    username: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        """Fixed text, so that no log, error or f-string can carry a secret."""
        return "Credentials(***)"


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry that images are looked for at; the hub is one of them. By default it is one
    that no configuration names: no login, the system's authorities.

    `address` is `https://host:port` with nothing after it; `host` is what stands in image
    names. They differ for Docker Hub (`docker.io` is served by registry-1.docker.io) and
    for a host of one word, which an image name can only have with a port.
    """

    address: str
    scheme: str
    host: str
    mirror: Mirror
    priority: int = 0
    is_hub: bool = False
    credentials: Credentials | None = None
    credentials_source: str = ""
    """`auth`, `passwordFile`, `dockerConfig`, or `""`."""
    ca_file: str | None = None
    insecure_skip_verify: bool = False
    stall_timeout_s: float = 30.0
    """How long a transfer from it may stand still before the next registry is tried."""
    password_file: str | None = None
    docker_config: str | None = None
    authority: bytes | None = field(default=None, repr=False)
    """What `ca_file` held when it was read (PEM)."""
    key: str = field(default="", repr=False, compare=False)
    """Its key path in the configuration as given: `registries[1]`; `hub` for the hub."""

    @classmethod
    def unconfigured(cls, address: str, scheme: str, host: str) -> Registry:
        """One that no configuration names."""
        return cls(address, scheme, host, Mirror(host))

    @property
    def inline_login(self) -> Credentials | None:
        """Its login, if that stands in the configuration itself and not in a file of its own."""
        return self.credentials if self.credentials_source == "auth" else None


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The resolver's cache: entries (below 0 = off), seconds, and its statistics in the log."""

    size: int
    ttl_s: float
    domain_ttl_s: float
    stats_interval_s: float
    disable_stats: bool


@dataclass(frozen=True, slots=True)
class KubernetesSource:
    """Where the cluster keeps its part of the configuration."""

    enabled: bool = False
    kubeconfig: str = ""
    namespace: str = CLUSTER_NAMESPACE
    name: str = CLUSTER_NAME
    hosts: Patterns = ANY_HOST
    """Registry hosts that the cluster may name, with the port where it is not the scheme's."""
    by_default: bool = False
    """Whether `kubeconfig` is kubelet's own, which may be another one once kubelet has started."""


@dataclass(frozen=True, slots=True)
class LoneLogin:
    """A login with no address beside it, which is therefore not used.

    `origin` is the file or the object that it is in, `path` its key there.
    """

    origin: str
    path: str

    def __str__(self) -> str:
        """What is wrong and how to mend it, for a log."""
        return f"{self.origin}: {self.path} has no address beside it and is not used: write both"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file that the configuration was read from, and a keyed hash of what was in it."""

    path: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the shim is told; a reload makes a new one."""

    source: str
    shim_socket: str
    runtime_socket: str | None
    """None: look for it at the known places."""
    hub: Registry
    registries: tuple[Registry, ...]
    """The hub included; best priority first, ties: the hub first, then by host."""
    force: bool
    debug: bool
    timeout_s: float
    stall_timeout_s: float
    """Of a transfer from no registry of the configuration."""
    sandbox_image: str | None
    """The pods' pause image; None: the runtime's own."""
    reload_interval_s: float
    exclude: Patterns
    fallback: Fallback
    on_failure: OnFailure
    names: Names
    probe_timeout_s: float
    negative_cache_ttl_s: float
    admin_socket: str
    state_dir: str
    metrics: str | None
    """`host:port`, the host may be empty (all addresses); None is off."""
    cache: CacheSettings
    notices: tuple[str, ...]
    kubernetes: KubernetesSource = KubernetesSource()
    lone_logins: tuple[LoneLogin, ...] = ()
    """Logins that are not used; the shim counts as degraded while there are any."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each key that is given came from, by key path; a key that is not here: default."""
    files: tuple[FileStamp, ...] = field(default=(), repr=False, compare=False)

    @property
    def further_registries(self) -> tuple[Registry, ...]:
        """Those beside the hub, in their order."""
        return tuple(registry for registry in self.registries if not registry.is_hub)
