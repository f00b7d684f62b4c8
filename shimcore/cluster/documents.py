"""The cluster's part of the configuration: a ConfigMap, and a Secret of its name, which wins.

Both hold a document in the Go shim's format, or in ours, under the key `registries.yaml`. It is
read by a table of its own (`CLUSTER_KEYS`), so that a fault has the path that its author knows, and
turned into a layer in the format of the node's file.

The last part that was good is kept on the node for when the API server is away: one JSON file of
mode 0600 in `stateDir`, written whole or not at all, which may hold passwords, as the objects do:
`{"namespace", "name", "kept_at", "documents": {"ConfigMap": {"text", "version"}, …}}`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shimcore.cluster.keys import CLUSTER_KEYS, CLUSTER_REGISTRY_KEYS
from shimcore.cluster.merging import Ignored, Layer, merged
from shimcore.config.document import Tree, list_of, mapping_of, read_document
from shimcore.config.keys import Key
from shimcore.config.keys import Kind as KeyKind
from shimcore.config.model import Config, KubernetesSource, LoneLogin
from shimcore.config.overlay import Merged
from shimcore.config.reading import Reader, is_empty
from shimcore.config.state import StateError, kept_at, read_state, write_state
from shimcore.errors import ConfigError, ConfigFault

DATA_KEY = "registries.yaml"
"""The key, in both objects, that holds the document."""
FILE_NAME = "kubernetes.json"

_WRITTEN_OTHERWISE = {
    KeyKind.LOCAL,
    KeyKind.LOGIN,
    KeyKind.MAPPING,
    KeyKind.MAPPINGS,
    KeyKind.OLD,
}
_NOT_YOURS = "only the node's file may say it"


class Kind(StrEnum):
    """The kinds of object that are looked at; the later one wins."""

    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105 - the name of a kind

    @property
    def plural(self) -> str:
        """The resource's name in the API."""
        return f"{self.value.lower()}s"


@dataclass(frozen=True, slots=True)
class Document:
    """What one object says; `text` is never shown, it may hold passwords."""

    text: str = field(repr=False)
    version: str
    """The object's resourceVersion."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the server says of one object: `version` to go on from, and what it holds now.

    `document` is None when the object, or its `registries.yaml`, is not there; `lack` says that it
    is the latter. A `bookmark` says nothing of the object.
    """

    version: str
    document: Document | None = None
    bookmark: bool = False
    lack: str = ""


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """What the cluster says: the documents that are there, by kind."""

    source: KubernetesSource
    documents: Mapping[Kind, Document]

    def layers(self) -> list[Layer]:
        """The documents that are there, the later one wins. ConfigError with every fault of all."""
        layers: list[Layer] = []
        faults: list[ConfigFault] = []
        names: list[str] = []
        for kind in Kind:
            document = self.documents.get(kind)
            if document is None:
                continue
            try:
                layers.append(read_cluster_document(document.text, self.origin(kind)))
            except ConfigError as error:
                faults += error.faults
                names.append(error.source)
        if faults:
            raise ConfigError(" and ".join(names), tuple(faults))
        return layers

    def over(self, tree: Mapping[str, Tree], own: Config) -> Merged | None:
        """The documents over the node's file, where that asks for them and there are any.

        Raises ConfigError with every fault of all.
        """
        if not self.documents or not own.kubernetes.enabled or not self.belongs_to(own.kubernetes):
            return None
        return merged(tree, own, self.layers())

    def __str__(self) -> str:
        """The objects that say something."""
        return " and ".join(self.origin(kind) for kind in self.documents)

    def belongs_to(self, source: KubernetesSource) -> bool:
        """Whether these are the objects that `source` names."""
        mine = self.source
        return (mine.namespace, mine.name) == (source.namespace, source.name)

    def origin(self, kind: Kind) -> str:
        """How a value from there says where it came from."""
        return f"{kind} {self.source.namespace}/{self.source.name}"


def read_cluster_document(text: str, origin: str) -> Layer:
    """The document as a layer in the format of the node's file. Raises ConfigError.

    What it may not say is ignored, and what is out of bounds brought within them; both are
    noted.
    """
    tree, faults = read_document(text)
    if tree is not None and not isinstance(tree, dict):
        faults = [ConfigFault("", "keys and values expected, such as: version: v1")]
    reader = Reader(clamps=True)
    reader.faults.add(faults)
    given = mapping_of(tree)
    reader.mapping(given, CLUSTER_KEYS, "")
    translation = _Translation(reader, origin)
    local = {} if reader.faults else translation.local(given)
    if reader.faults:
        raise ConfigError(origin, tuple(reader.faults))
    notes = Ignored()
    for path in reader.ignored:
        notes.note(origin, path, _NOT_YOURS)
    notices = (*(f"{origin}: {notice}" for notice in reader.notices), *notes.lines())
    return Layer(local, origin, notices, tuple(translation.lone_logins))


class _Translation:
    """A faultless tree in the cluster's format → the same in the file's."""

    def __init__(self, reader: Reader, origin: str) -> None:
        self._reader = reader
        self._origin = origin
        self.lone_logins: list[LoneLogin] = []

    def local(self, tree: Mapping[str, Tree]) -> dict[str, Tree]:
        taken = [key.name for key in CLUSTER_KEYS if _is_taken(key, tree)]
        cache = mapping_of(tree.get("cache"))
        return {
            **{name: self._clamped(name, tree[name]) for name in taken},
            **self._hub(tree),
            "cache": {key: self._clamped(f"cache.{key}", value) for key, value in cache.items()},
            "registries": [
                self._registry(mapping_of(entry), f"registries[{number}]")
                for number, entry in enumerate(list_of(tree.get("registries")))
            ],
        }

    def _clamped(self, path: str, value: Tree) -> Tree:
        return self._reader.clamped.get(path, value)

    def _hub(self, tree: Mapping[str, Tree]) -> dict[str, Tree]:
        """The hub, in the Go shim's place or in the file's; not in both."""
        sealos = mapping_of(tree.get("sealos"))
        for name in ("address", "auth"):
            if not is_empty(sealos.get(name)) and not is_empty(tree.get(name)):
                self._reader.faults.note(name, f"sealos.{name} is given as well; one of them only")
        path = "auth" if is_empty(sealos.get("auth")) else "sealos.auth"
        address = sealos.get("address") or tree.get("address")
        return self._with_login(address, sealos.get("auth") or tree.get("auth"), path)

    def _registry(self, entry: Mapping[str, Tree], path: str) -> dict[str, Tree]:
        login = self._with_login(entry.get("address"), entry.get("auth"), f"{path}.auth")
        return {
            key.name: entry[key.name] for key in CLUSTER_REGISTRY_KEYS if _is_taken(key, entry)
        } | login

    def _with_login(self, address: Tree, login: Tree, path: str) -> dict[str, Tree]:
        """An address and the login beside it; a login that stands alone is noted."""
        text = self._login(login, path)
        if text and is_empty(address):
            self.lone_logins.append(LoneLogin(self._origin, path))
            text = None
        return {"address": address, "auth": text}

    def _login(self, login: Tree, path: str) -> str | None:
        """`user:password`; spaces around both are not part of them, as in the Go shim."""
        if not isinstance(login, dict):
            return _text(login) or None
        user, password = (_text(login.get(name)).strip() for name in ("username", "password"))
        if ":" in user:
            self._reader.faults.note(f"{path}.username", "a user name has no colon")
        return f"{user}:{password}" if user or password else None


def _is_taken(key: Key, tree: Mapping[str, Tree]) -> bool:
    """Whether a key is given that counts, and is written in the file as it is here."""
    return key.name in tree and key.kind not in _WRITTEN_OTHERWISE


def _text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else ""


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
        kept = _kept(content, source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    else:
        return kept if kept.part.belongs_to(source) else None
    # Raised outside the handler: the error of json holds the whole text.
    path = os.path.join(folder, FILE_NAME)
    raise StateError(f"{path}: not a copy that was kept here; it is not used")


def _kept(content: bytes, source: KubernetesSource) -> Kept:
    tree = json.loads(content)
    documents = {
        Kind(kind): Document(str(one["text"]), str(one["version"]))
        for kind, one in tree["documents"].items()
    }
    named = KubernetesSource(
        source.enabled, source.kubeconfig, str(tree["namespace"]), str(tree["name"])
    )
    return Kept(ClusterPart(named, documents), kept_at(tree["kept_at"]))
