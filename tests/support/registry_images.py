"""What a registry of tests holds: small, valid one-layer images, by digest and by tag."""

from __future__ import annotations

from dataclasses import dataclass, field

from shimcore.demo.registry_images import OCI_MANIFEST, digest_of, made


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
        manifest, *blobs = made(content)
        for blob in blobs:
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
