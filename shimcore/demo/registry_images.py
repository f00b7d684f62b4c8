"""What the demo registry holds: small, valid one-layer images, by digest and by tag."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    """Return `sha256:…` of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's bytes and media type."""

    content: bytes
    media_type: str


@dataclass(slots=True)
class ImageShelf:
    """The content of a registry; blobs are shared by all repositories."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    """By (repository, digest)."""
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    """By (repository, tag): a digest."""

    def add_image(self, repository: str, tag: str, content: bytes) -> str:
        """Store an image whose layer has `content` in the file `content`; return its digest."""
        layer_tar = _layer(content)
        layer = gzip.compress(layer_tar, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer_tar)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": _descriptor(config, OCI_CONFIG),
                "layers": [_descriptor(layer, OCI_LAYER)],
            }
        ).encode()
        for blob in (config, layer):
            self.blobs[digest_of(blob)] = blob
        digest = digest_of(manifest)
        self.manifests[repository, digest] = Manifest(manifest, OCI_MANIFEST)
        self.tags[repository, tag] = digest
        return digest

    def find(self, repository: str, reference: str) -> tuple[str, Manifest] | None:
        """Return digest and manifest for a tag or a digest."""
        digest = self.tags.get((repository, reference), reference)
        manifest = self.manifests.get((repository, digest))
        return None if manifest is None else (digest, manifest)


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


def _layer(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("content")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
