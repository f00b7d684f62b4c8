"""The last known good part of the cluster, kept on the node for when the API server is away.

One JSON file of mode 0600 in `stateDir`, written whole or not at all:
`{"namespace", "name", "kept_at", "documents": {"ConfigMap": {"text", "version"}, …}}`.
It may hold passwords, as the objects do.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from dataclasses import dataclass

from shimcore.config.files import read_file
from shimcore.config.kubernetes import ClusterPart, Document, Kind
from shimcore.config.model import KubernetesSource

FILE_NAME = "kubernetes.json"
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


class StateError(Exception):
    """The kept copy could not be read or written; the text says why, and shows nothing of it."""


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
    try:
        os.makedirs(folder, _FOLDER_MODE, exist_ok=True)
        _replace(os.path.join(folder, FILE_NAME), content.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateError(f"{folder}: the cluster's part cannot be kept: {reason}") from None


def _replace(path: str, content: bytes) -> None:
    """The new content under a name of its own first, on disk, and only then in place."""
    descriptor, new = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{FILE_NAME}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _FILE_MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def recall(folder: str, source: KubernetesSource) -> Kept | None:
    """The copy of these objects, if there is one. Raises StateError where it is unusable."""
    path = os.path.join(folder, FILE_NAME)
    try:
        content, _ = read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from None
    try:
        kept = _parsed(content, source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    else:
        return kept if kept.part.belongs_to(source) else None
    # Raised outside the handler: the error of json holds the whole text.
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
