"""The cluster's part of the configuration: a ConfigMap, and a Secret of its name, which wins.

Both hold a document in the Go shim's format under the key `registries.yaml`. It is read by a
table of its own (`CLUSTER_KEYS`), so that a fault has the path that its author knows, and
turned into a layer in the format of the node's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shimcore.config.document import Tree, read_document
from shimcore.config.keys import CLUSTER_KEYS
from shimcore.config.model import KubernetesSource
from shimcore.config.origins import Layer, layer_of, merged
from shimcore.config.reading import Reader
from shimcore.errors import ConfigError, ConfigFault

DATA_KEY = "registries.yaml"
"""The key, in both objects, that holds the document."""


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

    `document` is None when the object, or its `registries.yaml`, is not there; a `bookmark`
    says nothing of the object.
    """

    version: str
    document: Document | None = None
    bookmark: bool = False


@dataclass(frozen=True, slots=True)
class ClusterPart:
    """What the cluster says: the documents that are there, by kind."""

    source: KubernetesSource
    documents: Mapping[Kind, Document]

    def layer(self) -> Layer:
        """Both documents as one layer. Raises ConfigError with every fault of both."""
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
        layer = Layer({}, {})
        for upper in layers:
            layer = merged(layer, upper, keep_registries=True)
        return layer

    def belongs_to(self, source: KubernetesSource) -> bool:
        """Whether these are the objects that `source` names."""
        mine = self.source
        return (mine.namespace, mine.name) == (source.namespace, source.name)

    def origin(self, kind: Kind) -> str:
        """How a value from there says where it came from."""
        return f"{kind} {self.source.namespace}/{self.source.name}"


def read_cluster_document(text: str, origin: str) -> Layer:
    """The document as a layer in the format of the node's file. Raises ConfigError."""
    tree, faults = read_document(text)
    if tree is not None and not isinstance(tree, dict):
        faults = [ConfigFault("", "keys and values expected, such as: version: v1")]
    reader = Reader()
    reader.faults.extend(faults)
    given = tree if isinstance(tree, dict) else {}
    reader.mapping(given, CLUSTER_KEYS, "")
    local = {} if reader.faults else _Translation(reader).local(given)
    if reader.faults:
        raise ConfigError(origin, tuple(reader.faults))
    return layer_of(local, origin)


class _Translation:
    """A faultless tree in the cluster's format → the same in the file's."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def local(self, tree: Mapping[str, Tree]) -> dict[str, Tree]:
        local = {
            name: value
            for name, value in tree.items()
            if name not in {"version", "sealos", "registries"}
        }
        sealos = _mapping(tree.get("sealos"))
        if sealos.get("address"):
            local["address"] = sealos["address"]
        local["auth"] = self._auth(sealos.get("auth"), "sealos.auth")
        registries = tree.get("registries")
        local["registries"] = [
            _mapping(entry) | {"auth": self._auth(_mapping(entry).get("auth"), _login_path(index))}
            for index, entry in enumerate(registries if isinstance(registries, list) else [])
        ]
        return local

    def _auth(self, login: Tree, path: str) -> Tree:
        """`user:password`; spaces around both are not part of them, as in the Go shim."""
        parts = _mapping(login)
        user, password = (_text(parts.get(name)).strip() for name in ("username", "password"))
        if ":" in user:
            self._reader.fault(f"{path}.username", "a user name has no colon")
        return f"{user}:{password}" if user or password else None


def _login_path(index: int) -> str:
    return f"registries[{index}].auth"


def _mapping(tree: Tree) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}


def _text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else ""
