"""The keys that the cluster's documents may have, and which of them count."""

from __future__ import annotations

from shimcore.config.keys import REGISTRIES_LIMIT, REGISTRY_KEYS, TOP_KEYS, Key, Kind

_LOGIN_KEYS = (
    Key("username", Kind.SECRET, "user name"),
    Key("password", Kind.SECRET, "password"),
)

_TOP = {key.name: key for key in TOP_KEYS}


def _given_by_the_cluster(keys: tuple[Key, ...], allowed: tuple[Key, ...]) -> tuple[Key, ...]:
    """Those of `keys` that the cluster may set, as it writes them; the others are ignored."""
    names = {key.name for key in allowed}
    others = (key for key in keys if key.name not in names)
    return (*allowed, *(Key(key.name, Kind.LOCAL, key.doc) for key in others))


_LOGIN = Key("auth", Kind.LOGIN, "login, for the address beside it", keys=_LOGIN_KEYS)
_REGISTRY = {key.name: key for key in REGISTRY_KEYS}
CLUSTER_REGISTRY_KEYS = _given_by_the_cluster(
    REGISTRY_KEYS,
    (*(_REGISTRY[name] for name in ("address", "priority", "path", "domains")), _LOGIN),
)

CLUSTER_KEYS = _given_by_the_cluster(
    TOP_KEYS,
    (
        Key("version", Kind.OLD, "version of the format; v1"),
        Key("sealos", Kind.MAPPING, "the hub", keys=(_REGISTRY["address"], _LOGIN)),
        _TOP["address"],
        _LOGIN,
        Key(
            "registries",
            Kind.MAPPINGS,
            "further registries",
            keys=CLUSTER_REGISTRY_KEYS,
            limit=REGISTRIES_LIMIT,
        ),
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
                "probeTimeout",
                "negativeCacheTTL",
            )
        ),
    ),
)
"""What `registries.yaml` of the ConfigMap and the Secret may hold: the Go shim's format, and
those of ours that tighten or that every node may share. Who may write it shall not have nodes
send files of theirs to a registry of his, or trust it more than the node's file does."""
