"""Every key of the configuration, once: name, type, default and meaning.

The reader, the nearest-key hints and any schema or table of the documentation follow
from this table; a key that is not here does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


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
    PATTERNS = auto()
    MAPPING = auto()
    MAPPINGS = auto()
    NAME = auto()
    IMAGE = auto()
    OLD = auto()
    LOCAL = auto()


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` is YAML text, None when there is no value without it."""

    name: str
    kind: Kind
    default: str | None
    doc: str
    zero: str = "value"
    """What 0 means: `value` itself, the `default`, or a `fault`."""
    choices: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    """The keys inside a MAPPING, or inside each of MAPPINGS."""


_OPTION_KEYS = (
    Key("caFile", Kind.PATH, None, "PEM file of the authorities that sign its certificate"),
    Key("insecureSkipVerify", Kind.BOOLEAN, "false", "accept any certificate"),
    Key(
        "passwordFile",
        Kind.PATH,
        None,
        "file of one line: user:password, or the password alone where auth gives the user",
    ),
    Key("dockerConfig", Kind.PATH, None, "docker config.json that has its login"),
    Key(
        "domains",
        Kind.DOMAINS,
        None,
        "source domains that it serves, * for all; by default all, but a well-known public "
        "registry serves its own only",
    ),
    Key(
        "path",
        Kind.TEMPLATE,
        "{path}",
        "template of the repository path; {path} and {domain} are known",
    ),
    Key(
        "stallTimeout",
        Kind.DURATION,
        None,
        "how long its transfer may stand still; by default the one at the top",
        zero="fault",
    ),
)

_REGISTRY_KEYS = (
    Key("address", Kind.ADDRESS, None, "URL or host[:port]; https when no scheme is given"),
    Key("auth", Kind.SECRET, None, "user:password, split at the first colon"),
    Key("priority", Kind.INTEGER, "500", "0 to 10000, best first", zero="default"),
    *_OPTION_KEYS,
)

_CACHE_KEYS = (
    Key("imageCacheSize", Kind.INTEGER, "1024", "entries of the resolver's cache; 0 is off"),
    Key("imageCacheTTL", Kind.DURATION, "30m", "how long an answer holds", zero="default"),
    Key("domainCacheTTL", Kind.DURATION, "10m", "how long a domain's answer holds", zero="default"),
    Key("statsLogInterval", Kind.DURATION, "1m", "how often statistics are logged; 0 is never"),
    Key("disableStats", Kind.BOOLEAN, "false", "log no statistics"),
)

_KUBERNETES_KEYS = (
    Key(
        "enabled",
        Kind.BOOLEAN,
        None,
        "whether the cluster's part is read; by default where there is a kubeconfig",
    ),
    Key(
        "kubeconfig",
        Kind.PATH,
        None,
        "kubeconfig file; by default KUBECONFIG's, then /etc/kubernetes/kubelet.conf",
    ),
    Key("namespace", Kind.NAME, "kube-system", "namespace of the ConfigMap and the Secret"),
    Key("name", Kind.NAME, "image-cri-shim", "name of the ConfigMap and of the Secret"),
)

TOP_KEYS = (
    Key("shim", Kind.SOCKET, "/var/run/image-cri-shim.sock", "socket the shim listens on"),
    Key("cri", Kind.SOCKET, None, "runtime socket; looked for when absent"),
    Key("address", Kind.ADDRESS, None, "the hub, required: http://sealos.hub:5000"),
    Key("auth", Kind.SECRET, None, "the hub's user:password, split at the first colon"),
    Key("force", Kind.BOOLEAN, "false", "listen at once, without waiting for the runtime"),
    Key("debug", Kind.BOOLEAN, "false", "debug logging"),
    Key(
        "timeout",
        Kind.DURATION,
        "15m",
        "bound on an image call that shows no progress",
        zero="default",
    ),
    Key(
        "stallTimeout",
        Kind.DURATION,
        "30s",
        "a registry whose transfer stands still for so long is left for the next one",
        zero="default",
    ),
    Key("sandboxImage", Kind.IMAGE, None, "the pods' pause image; the runtime's own when absent"),
    Key(
        "reloadInterval",
        Kind.DURATION,
        "15s",
        "how often the configuration is looked at",
        zero="default",
    ),
    Key("offlinePriority", Kind.INTEGER, "1000", "the hub's priority", zero="default"),
    Key("registries", Kind.MAPPINGS, None, "further registries", keys=_REGISTRY_KEYS),
    Key("cache", Kind.MAPPING, None, "the resolver's cache", keys=_CACHE_KEYS),
    Key("hub", Kind.MAPPING, None, "the hub's options", keys=_OPTION_KEYS),
    Key("exclude", Kind.PATTERNS, None, "globs of images that are never rewritten"),
    Key(
        "fallback",
        Kind.CHOICE,
        "allow",
        "whether the original name may be pulled when no registry has the image",
        choices=("allow", "deny"),
    ),
    Key(
        "names",
        Kind.CHOICE,
        "original",
        "the names of an image after a pull through a registry",
        choices=("original", "both", "registry"),
    ),
    Key("probeTimeout", Kind.DURATION, "3s", "bound on asking the registries", zero="fault"),
    Key("negativeCacheTTL", Kind.DURATION, "15s", "how long a miss is remembered; 0 is not"),
    Key("admin", Kind.SOCKET, None, "the admin socket; by default the shim's with .admin added"),
    Key("stateDir", Kind.PATH, "/var/lib/image-cri-shim", "folder for what outlives a restart"),
    Key("metrics", Kind.LISTEN, None, "host:port, :port or port to serve metrics at; off"),
    Key(
        "kubernetes",
        Kind.MAPPING,
        None,
        "configuration from the cluster, merged over this file",
        keys=_KUBERNETES_KEYS,
    ),
    Key("image", Kind.OLD, None, "old; accepted and not used"),
    Key("version", Kind.OLD, None, "old; accepted and not used, both CRI versions are served"),
    Key("registry.d", Kind.OLD, None, "old; accepted and not used"),
)

_LOGIN_KEYS = (
    Key("username", Kind.SECRET, None, "user name"),
    Key("password", Kind.SECRET, None, "password"),
)

_LOCAL_REASON = "the node's own: only its configuration file may say it"
_TOP = {key.name: key for key in TOP_KEYS}
_OPTIONS = {key.name: key for key in _OPTION_KEYS}


def _local(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Kind.LOCAL, None, _LOCAL_REASON) for name in names)


# What names a file stays with the node: whoever may write the ConfigMap shall not have
# nodes send files of theirs to a registry of his.
_CLUSTER_OPTION_KEYS = (
    _OPTIONS["insecureSkipVerify"],
    _OPTIONS["domains"],
    _OPTIONS["path"],
    *_local("caFile", "passwordFile", "dockerConfig"),
)

CLUSTER_KEYS = (
    Key("version", Kind.OLD, None, "version of the format; v1"),
    Key(
        "sealos",
        Kind.MAPPING,
        None,
        "the hub",
        keys=(
            Key("address", Kind.ADDRESS, None, "the hub's address"),
            Key("auth", Kind.MAPPING, None, "the hub's login", keys=_LOGIN_KEYS),
        ),
    ),
    Key(
        "registries",
        Kind.MAPPINGS,
        None,
        "further registries",
        keys=(
            _REGISTRY_KEYS[0],
            Key("auth", Kind.MAPPING, None, "its login", keys=_LOGIN_KEYS),
            _REGISTRY_KEYS[2],
            *_CLUSTER_OPTION_KEYS,
        ),
    ),
    Key("hub", Kind.MAPPING, None, "the hub's options", keys=_CLUSTER_OPTION_KEYS),
    *(
        _TOP[name]
        for name in (
            "offlinePriority",
            "reloadInterval",
            "force",
            "debug",
            "timeout",
            "stallTimeout",
            "cache",
            "exclude",
            "fallback",
            "names",
            "probeTimeout",
            "negativeCacheTTL",
        )
    ),
    *_local("shim", "cri", "admin", "stateDir", "metrics", "kubernetes"),
)
"""What `registries.yaml` of the ConfigMap and the Secret may hold: the Go shim's format, and
those of ours that are the same for every node."""
