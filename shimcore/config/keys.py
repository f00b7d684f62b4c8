"""Every key of the configuration, once: name, type, default, meaning, place in the model.

The reader, the masked form, the nearest-key hints, the schema, the sample and the tables of
the documentation follow from this table; a key that is not here does not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from shimcore.config.model import (
    CLUSTER_NAME,
    CLUSTER_NAMESPACE,
    Fallback,
    Names,
    OnFailure,
)


class Kind(Enum):
    """How a key's text becomes a value; `values.py` has one reader for each."""

    BOOLEAN = auto()
    INTEGER = auto()
    DURATION = auto()
    SOCKET = auto()
    ADDRESS = auto()
    SECRET = auto()
    PATH = auto()
    LISTEN = auto()
    TEMPLATE = auto()
    CHOICE = auto()
    DOMAINS = auto()
    HOSTS = auto()
    PATTERNS = auto()
    MAPPING = auto()
    MAPPINGS = auto()
    NAME = auto()
    IMAGE = auto()
    LOGIN = auto()
    """`user:password`, or a mapping of both."""
    OLD = auto()
    LOCAL = auto()
    """A key that whoever wrote this document may not set; it is ignored, with a warning."""


_CAPITALS = re.compile(r"(?<=[a-z])[A-Z]+")


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` is YAML text, None when there is no value without it."""

    name: str
    kind: Kind
    doc: str
    default: str | None = None
    zero: str = "value"
    """What 0 means: `value` itself, the `default`, or a `fault`."""
    negative: str = "fault"
    """What a DURATION below 0 means: a `fault`, or the `default`, as in the Go shim."""
    choices: type[StrEnum] | None = None
    keys: tuple[Key, ...] = ()
    """The keys inside a MAPPING or LOGIN, or inside each of MAPPINGS."""
    least: str = ""
    most: str = ""
    """Bounds of a DURATION, as YAML text; 0 is as `zero` says, whatever they are."""
    limit: int = 0
    """Most items of a list."""
    example: str = ""
    """YAML text of a value, where there is no default."""
    absent: str = ""
    """What holds without a value where there is no default: `detected`, `all`, `off`."""
    held: str = ""
    """`attribute`, where it is not what the name and the kind say."""

    @property
    def attribute(self) -> str:
        """Where the value is in the model, from what holds its mapping: `stall_timeout_s`."""
        words = _CAPITALS.sub(lambda found: f"_{found[0].lower()}", self.name)
        return self.held or (f"{words}_s" if self.kind is Kind.DURATION else words)

    @property
    def meaning(self) -> str:
        """What it means and which values it takes, as schema, sample and documentation say it."""
        choices = f" ({' or '.join(self.choices)})" if self.choices else ""
        return f"{self.doc}{choices}{self._bounds()}"

    def _bounds(self) -> str:
        if self.least and self.most:
            return f"; {self.least} to {self.most}"
        if self.least or self.most:
            return f"; at least {self.least}" if self.least else f"; at most {self.most}"
        return f"; at most {self.limit:,}" if self.limit else ""


REGISTRIES_LIMIT = 256
"""All of them are asked for each image."""
PRIORITY_LIMIT = 10_000
"""Highest priority (the Go shim's range is 0 to 10000)."""
CACHE_LIMIT = 65_536
"""Most images that are remembered."""
CACHE_OFF = -1
"""Images that are remembered when none are: in the Go shim 0 is the default."""
KUBELET_CONFIGS = (
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
    "/var/lib/kubelet/kubeconfig",
)
"""kubelet's own kubeconfig: of kubeadm, k3s, RKE2, k0s, MicroK8s, and of managed clusters."""
LOGIN_KEYS = ("auth", "passwordFile", "dockerConfig")
"""Those of a registry that give its login."""
_DOMAINS_LIMIT = 64
_PATTERNS_LIMIT = 1024

# The Go shim's durations may be a year, which is how its users switch something off.
_YEAR = "8760h"

_OPTION_KEYS = (
    Key(
        "caFile",
        Kind.PATH,
        "PEM file of the authorities that sign its certificate, added to the system's",
        example="/etc/ssl/hub-ca.pem",
    ),
    Key("insecureSkipVerify", Kind.BOOLEAN, "accept any certificate", default="false"),
    Key(
        "passwordFile",
        Kind.PATH,
        "file of one line: user:password, or the password alone where auth gives the user",
        example="/etc/image-cri-shim.password",
    ),
    Key(
        "dockerConfig",
        Kind.PATH,
        "docker config.json that has its login (auth or identity token)",
        example="/root/.docker/config.json",
    ),
    Key(
        "domains",
        Kind.DOMAINS,
        "source domains that it serves, * for any text; by default all, but a well-known public "
        "registry serves its own only",
        limit=_DOMAINS_LIMIT,
        example="[quay.io]",
        absent="all",
        held="mirror.domains",
    ),
    Key(
        "path",
        Kind.TEMPLATE,
        "template of the repository path; {path} and {domain} are known: dockerhub/{path} is a "
        "Harbor proxy project, {domain}/{path} keeps source domains apart",
        default="{path}",
        held="mirror.path_template",
    ),
    Key(
        "stallTimeout",
        Kind.DURATION,
        "how long its transfer may stand still before the next registry is tried; by default the "
        "one at the top",
        zero="fault",
        least="1s",
        most="1h",
        example="1m",
    ),
)

REGISTRY_KEYS = (
    Key(
        "address",
        Kind.ADDRESS,
        "URL or host[:port]; https when no scheme is given",
        example="https://registry.example:5000",
    ),
    Key(
        "auth",
        Kind.SECRET,
        "user:password, split at the first colon",
        example="user:password",
        held="inline_login",
    ),
    Key(
        "priority",
        Kind.INTEGER,
        f"0 to {PRIORITY_LIMIT}, the highest first",
        default="500",
        zero="default",
    ),
    *_OPTION_KEYS,
)

CACHE_KEYS = (
    Key(
        "imageCacheSize",
        Kind.INTEGER,
        f"remembered answers, up to 8 MiB; 0 is the default, below it off, {CACHE_LIMIT} the most",
        default="1024",
        zero="default",
        held="size",
    ),
    Key(
        "imageCacheTTL",
        Kind.DURATION,
        "how long a remembered answer holds",
        default="30m",
        zero="default",
        negative="default",
        most=_YEAR,
        held="ttl_s",
    ),
    Key(
        "domainCacheTTL",
        Kind.DURATION,
        "accepted and not used: nothing is cached by domain",
        default="10m",
        zero="default",
        negative="default",
        most=_YEAR,
        held="domain_ttl_s",
    ),
    Key(
        "statsLogInterval",
        Kind.DURATION,
        "how often a line of statistics is logged; 0 is never",
        default="1m",
        negative="default",
        least="1s",
        most=_YEAR,
        held="stats_interval_s",
    ),
    Key("disableStats", Kind.BOOLEAN, "log no statistics", default="false"),
)

_KUBERNETES_KEYS = (
    Key(
        "enabled",
        Kind.BOOLEAN,
        "whether the cluster's part is read; by default where a kubeconfig is given, here or by "
        "KUBECONFIG",
        example="true",
    ),
    Key(
        "kubeconfig",
        Kind.PATH,
        "kubeconfig file; by default KUBECONFIG's, then kubelet's own",
        example=KUBELET_CONFIGS[0],
    ),
    Key(
        "namespace",
        Kind.NAME,
        "namespace of the ConfigMap and the Secret",
        default=CLUSTER_NAMESPACE,
    ),
    Key("name", Kind.NAME, "name of the ConfigMap and of the Secret", default=CLUSTER_NAME),
    Key(
        "hosts",
        Kind.HOSTS,
        "registry hosts that the cluster may name, * for any text: harbor.example.com, "
        "*.example.com:5000; by default all",
        limit=REGISTRIES_LIMIT,
        example="['*.example.com']",
    ),
)

TOP_KEYS = (
    Key(
        "shim",
        Kind.SOCKET,
        "socket that kubelet connects to; unix://… works, too",
        default="/var/run/image-cri-shim.sock",
        held="shim_socket",
    ),
    Key(
        "cri",
        Kind.SOCKET,
        "the runtime's socket; looked for when absent: containerd, CRI-O, cri-dockerd, k3s, "
        "RKE2, k0s, MicroK8s. More than one is an error that lists them",
        example="/run/containerd/containerd.sock",
        absent="detected",
        held="runtime_socket",
    ),
    Key(
        "address",
        Kind.ADDRESS,
        "the hub; https when no scheme is given",
        example="http://sealos.hub:5000",
        absent="required",
        held="hub.address",
    ),
    Key(
        "auth",
        Kind.SECRET,
        "the hub's user:password, split at the first colon",
        example="admin:passw0rd",
        held="hub.inline_login",
    ),
    Key(
        "force",
        Kind.BOOLEAN,
        "true: listen at once, and answer UNAVAILABLE until the runtime is up; false: wait for the "
        "runtime first, timeout at most",
        default="false",
    ),
    Key("debug", Kind.BOOLEAN, "debug logging", default="false"),
    Key(
        "timeout",
        Kind.DURATION,
        "bound on an image call that shows no progress",
        default="15m",
        zero="default",
        least="1s",
        most=_YEAR,
    ),
    Key(
        "stallTimeout",
        Kind.DURATION,
        "a registry whose transfer stands still for so long is left for the next one; settable for "
        "each registry",
        default="30s",
        zero="default",
        least="1s",
        most="1h",
    ),
    Key(
        "sandboxImage",
        Kind.IMAGE,
        "the pods' pause image; the runtime's own when absent",
        example="registry.k8s.io/pause:3.10",
        absent="detected",
    ),
    Key(
        "reloadInterval",
        Kind.DURATION,
        "how often the configuration is looked at",
        default="15s",
        zero="default",
        negative="default",
        least="100ms",
        most=_YEAR,
    ),
    Key(
        "offlinePriority",
        Kind.INTEGER,
        "the hub's priority",
        default="1000",
        zero="default",
        held="hub.priority",
    ),
    Key(
        "registries",
        Kind.MAPPINGS,
        "further registries, each with an address",
        keys=REGISTRY_KEYS,
        limit=REGISTRIES_LIMIT,
        held="further_registries",
    ),
    Key("cache", Kind.MAPPING, "the resolver's cache", keys=CACHE_KEYS),
    Key("hub", Kind.MAPPING, "the hub's options", keys=_OPTION_KEYS),
    Key(
        "exclude",
        Kind.PATTERNS,
        "patterns of images that are never rewritten: quay.io, docker.io/library/*, */pause:*; "
        "64 KiB of them at most",
        limit=_PATTERNS_LIMIT,
        example="['internal.example/*']",
    ),
    Key(
        "fallback",
        Kind.CHOICE,
        "whether the original name may be pulled when no registry gives the image",
        default=Fallback.ALLOW,
        choices=Fallback,
    ),
    Key(
        "names",
        Kind.CHOICE,
        "the names that an image has after a pull through a registry: its original one, and the "
        "registry's that this pull brought go; both; or the registry's only (the pause image has "
        "its own, too). On cri-dockerd original is as both, on CRI-O everything is as registry",
        default=Names.ORIGINAL,
        choices=Names,
    ),
    Key(
        "onFailure",
        Kind.CHOICE,
        "what serves the socket when the shim cannot start: bypass, the runtime itself; closed, "
        "nothing. By default bypass, under fallback: deny closed",
        choices=OnFailure,
        example="closed",
    ),
    Key(
        "probeTimeout",
        Kind.DURATION,
        "bound on asking the registries about an image",
        default="3s",
        zero="fault",
        least="100ms",
        most="5m",
    ),
    Key(
        "negativeCacheTTL",
        Kind.DURATION,
        "how long a miss is remembered; 0 is not. A registry that could not be asked is never a "
        "miss",
        default="15s",
        most="1h",
    ),
    Key(
        "admin",
        Kind.SOCKET,
        "the socket that status asks, 0600; by default the shim's with .admin added",
        example="/run/image-cri-shim.admin",
        held="admin_socket",
    ),
    Key(
        "stateDir",
        Kind.PATH,
        "folder for what outlives a restart",
        default="/var/lib/image-cri-shim",
    ),
    Key(
        "metrics",
        Kind.LISTEN,
        "host:port to serve Prometheus metrics at (GET and HEAD of /metrics); a port alone is on "
        "loopback; by default off",
        example="127.0.0.1:9464",
        absent="off",
    ),
    Key(
        "kubernetes",
        Kind.MAPPING,
        "a ConfigMap and a Secret of the cluster, watched and merged over this file",
        keys=_KUBERNETES_KEYS,
    ),
    Key("image", Kind.OLD, "old; accepted and not used"),
    Key("sync", Kind.OLD, "old; accepted and not used"),
    Key("version", Kind.OLD, "old; accepted and not used, both CRI versions are served"),
    Key("registry.d", Kind.OLD, "old; accepted and not used"),
)
