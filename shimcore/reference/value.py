"""Values: a normalised reference, and an image ID."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DOCKER_HUB = "docker.io"
"""Domain of an image that names none (distribution/reference, `defaultDomain`)."""

OFFICIAL_PREFIX = "library/"
"""Docker Hub's namespace of an image of one component (`officialRepoPrefix`)."""


DIGEST_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Algorithms that go-digest knows, and the length of their lower-case hex."""

_BARE_ID = re.compile(r"[a-f0-9]{64}")
_HEX = re.compile(r"[a-f0-9]*")


def reads_as_image_id(text: str) -> bool:
    """True for 64 lower-case hex digits, and for a whole digest."""
    if _BARE_ID.fullmatch(text):
        return True
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == DIGEST_HEX_LENGTH.get(algorithm) and bool(_HEX.fullmatch(encoded))


def looks_like_domain(component: str) -> bool:
    """True when the first component of a name is its domain, not part of its path.

    A dot, a colon, `localhost`, or an upper-case letter makes it one
    (distribution/reference, `splitDockerDomain`).
    """
    return (
        component == "localhost"
        or "." in component
        or ":" in component
        or component.lower() != component
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised image reference; tag and digest may both be there.

    `domain` is as written (`host:5000`, `[::1]:5000`), `path` is without it
    (`library/nginx`), `digest` carries its algorithm (`sha256:…`).
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None
    # Made once: an image's text is what it is remembered by, and each of its calls asks for it.
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", self.name + self._suffix)

    def __str__(self) -> str:
        """Canonical text: `docker.io/library/nginx:latest`, `host/app:v1@sha256:…`."""
        return self._text

    @property
    def name(self) -> str:
        """Domain and path, with neither tag nor digest."""
        return f"{self.domain}/{self.path}"

    @property
    def manifest_reference(self) -> str:
        """What stands in `/v2/<path>/manifests/<reference>`: the digest if there, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: without `docker.io/`, and without `library/`.

        A Docker Hub path that would then be read as another domain
        (`docker.io/localhost/app`) or as an image ID keeps its domain.
        """
        if self.domain != DOCKER_HUB:
            return self.name
        official = self.path.removeprefix(OFFICIAL_PREFIX)
        if official != self.path and "/" not in official:
            return self.name if reads_as_image_id(official) else official
        first, slash, _ = self.path.partition("/")
        if not slash or looks_like_domain(first):
            return self.name
        return self.path

    @property
    def familiar(self) -> str:
        """The reference as people write it: `nginx:latest`.

        `docker.io/library/sha256:…` with 64 hex digits for a tag stays as it is: without its
        domain it would be read as an image ID.
        """
        short = self.familiar_name + self._suffix
        return self._text if reads_as_image_id(short) else short

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return tag + digest


@dataclass(frozen=True, slots=True)
class ImageID:
    """An image ID, in the text that it came in; it names bytes, so it is never rewritten."""

    value: str

    def __str__(self) -> str:
        """The ID as it came in."""
        return self.value
