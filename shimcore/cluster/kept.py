"""The last known good part of the cluster, kept on the node for when the API server is away.

One JSON file of mode 0600 in `stateDir`, written whole or not at all:
`{"namespace", "name", "kept_at", "documents": {"ConfigMap": {"text", "version"}, …}}`.
It may hold passwords, as the objects do.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.config.model import KubernetesSource
from shimcore.config.state import StateError, read_state, write_state

FILE_NAME = "kubernetes.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept copy, and when it was written (seconds since 1970)."""

    part: ClusterPart
    kept_at: float


def keep(folder: str, part: ClusterPart) -> None:
    """Write the copy, replacing the one before in one step. Raises StateError."""
    content = json.dumps(
        {
            "namespace": part.source.namespace,
            "name": part.source.name,
            "kept_at": round(time.time()),
            "documents": {
                kind.value: {"text": document.text, "version": document.version}
                for kind, document in part.documents.items()
            },
        }
    )
    write_state(folder, FILE_NAME, content.encode(), "the cluster's part")


def recall(folder: str, source: KubernetesSource) -> Kept | None:
    """The copy of these objects, if there is one. Raises StateError where it is unusable."""
    content = read_state(folder, FILE_NAME)
    if content is None:
        return None
    try:
        kept = _parsed(content, source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    else:
        return kept if kept.part.belongs_to(source) else None
    # Raised outside the handler: the error of json holds the whole text.
    path = os.path.join(folder, FILE_NAME)
    raise StateError(f"{path}: not a copy that was kept here; it is not used")


def _parsed(content: bytes, source: KubernetesSource) -> Kept:
    tree = json.loads(content)
    documents = {
        Kind(kind): Document(str(one["text"]), str(one["version"]))
        for kind, one in tree["documents"].items()
    }
    named = KubernetesSource(
        source.enabled, source.kubeconfig, str(tree["namespace"]), str(tree["name"])
    )
    return Kept(ClusterPart(named, documents), float(tree["kept_at"]))
