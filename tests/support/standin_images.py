"""The stand-in's images: one table of names, seen through CRI and as an image store.

Names are made as containerd's CRI plugin makes them: a pull gives the image the name that was
asked for, the name with its digest, and its ID; each of them leads to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from shimcore.errors import ReferenceSyntaxError
from shimcore.pb import cri_pb2
from shimcore.pb.containerd_pb2 import Descriptor
from shimcore.reference import ImageID, Reference, parse
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.values import ImageRecord
from tests.support.standin_rpc import StatusError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

MANAGED_LABELS = {"io.cri-containerd.image": "managed"}
"""The mark that containerd's CRI plugin leaves on the names that it made."""


@dataclass(frozen=True, slots=True)
class PulledImage:
    """What a pull brought: digests are `sha256:…`, `size` is in bytes.

    `id` is the digest of the image's config, `digest` that of the manifest or index that the
    name led to, `user` the config's user ("", a name or a number).
    """

    id: str
    digest: str
    size: int
    media_type: str = MANIFEST_TYPE
    user: str = ""


class ScriptedTable:
    """Names and what they point at, and the images behind them."""

    def __init__(self) -> None:
        self.records: dict[str, ImageRecord] = {}
        self._content: dict[str, PulledImage] = {}  # by manifest digest

    def add(self, name: str, pulled: PulledImage) -> None:
        """Adds what a pull of `name` (as people write it) brought, under all its names."""
        reference = pullable(name)
        self._content[pulled.digest] = pulled
        target = Descriptor(media_type=pulled.media_type, digest=pulled.digest, size=pulled.size)
        for each in (canonical(reference), f"{reference.name}@{pulled.digest}", pulled.id):
            there = self.records.get(each)
            since = there.created_at if there else time.time()
            self.records[each] = ImageRecord(each, MANAGED_LABELS, target, since)

    def find(self, text: str) -> cri_pb2.Image | None:
        """The image that `text` leads to: a name, a name with digest, or an ID or its start."""
        record = self._resolve(text)
        pulled = self._content.get(record.target.digest) if record else None
        return self._image(pulled) if pulled else None

    def images(self) -> list[cri_pb2.Image]:
        """Every image that has a name, once."""
        named = {record.target.digest: record for record in self.records.values()}
        pulled = {
            self._content[digest].id: self._content[digest]
            for digest in named
            if digest in self._content
        }
        return [self._image(each) for each in pulled.values()]

    def listed(self, name: str) -> list[cri_pb2.Image]:
        """Every image, or the one that `name` leads to if it is not empty."""
        if not name:
            return self.images()
        found = self.find(name)
        return [found] if found else []

    def remove(self, text: str) -> None:
        """Removes all names of the image that `text` leads to; none is no error."""
        found = self.find(text)
        if found:
            for name in self._names(found.id):
                del self.records[name]

    def _resolve(self, text: str) -> ImageRecord | None:
        reference = parsed(text)
        if isinstance(reference, ImageID):
            name = "sha256:" + reference.value.removeprefix("sha256:")
        else:
            name = canonical(reference)
        return self.records.get(name) or self._by_short_id(text)

    def _by_short_id(self, text: str) -> ImageRecord | None:
        ids = [name for name in self.records if name.startswith("sha256:" + text)]
        return self.records[ids[0]] if len(ids) == 1 else None

    def _names(self, image_id: str) -> list[str]:
        return [
            name
            for name, record in self.records.items()
            if (pulled := self._content.get(record.target.digest)) and pulled.id == image_id
        ]

    def _image(self, pulled: PulledImage) -> cri_pb2.Image:
        names = [name for name in self._names(pulled.id) if name != pulled.id]
        image = cri_pb2.Image(
            id=pulled.id,
            repo_tags=[name for name in names if "@" not in name],
            repo_digests=[name for name in names if "@" in name],
            size=pulled.size,
        )
        user = pulled.user.partition(":")[0]
        if user.isdecimal():
            image.uid.value = int(user)
        else:
            image.username = user
        return image


def parsed(text: str) -> Reference | ImageID:
    """`text` as a reference or ID; INVALID_ARGUMENT when it is neither."""
    try:
        return parse(text)
    except ReferenceSyntaxError as error:
        details = f"failed to parse image reference {text!r}: {error}"
        raise StatusError(StatusCode.INVALID_ARGUMENT, details) from error


def pullable(image: str) -> Reference:
    """The name of an image that can be pulled; raises StatusError."""
    reference = parsed(image)
    if isinstance(reference, ImageID):
        raise StatusError(StatusCode.INVALID_ARGUMENT, f"cannot pull an image ID: {image}")
    return reference


def canonical(reference: Reference) -> str:
    """The name that containerd gives it: a tag beside a digest is left out."""
    if reference.digest:
        return f"{reference.name}@{reference.digest}"
    return str(reference)
