"""Is this manifest in that registry, under which digest, and for which platforms?

distribution-spec, Pulling manifests. HEAD first; GET where HEAD is refused or tells no digest.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shimcore.jsontext import object_in
from shimcore.registry.answers import ManifestAnswer, Outcome
from shimcore.registry.auth import Authenticator
from shimcore.registry.errors import Fault, UnauthorizedError, UnreachableError, error_codes
from shimcore.registry.http.transport import Answer, Ask

if TYPE_CHECKING:
    from shimcore.reference import Reference

MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024  # distribution-spec: registries should take this much
_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        *_SCHEMA1,
    )
)

PLATFORMS_LIMIT = 32
"""Images have about a dozen."""
_WORD_LIMIT = 32
_OK, _NOT_FOUND, _GONE, _BAD_REQUEST, _WITHHELD, _TOO_MANY = 200, 404, 410, 400, 412, 429
_HEAD_REFUSED = {400, 405, 406, 412, 415, 501}
# image-spec, Digests; the length keeps a hostile header out of logs and tables.
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,128}")
_SECONDS = re.compile(r"[0-9]{1,6}")
_ALGORITHMS = ("sha256", "sha384", "sha512")
_INVALID_NAMES = ("NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID", "MANIFEST_INVALID")
_NO_PROJECT = "BAD_REQUEST"  # Harbor's, for a path of one part


async def find_manifest(
    registry: str, base_url: str, authenticator: Authenticator, image: Reference, deadline: float
) -> ManifestAnswer:
    """FOUND with the digest, or ABSENT with the reason when it is not a plain 404.

    Raises UnauthorizedError, UnreachableError.
    """
    head = replace(_get(base_url, image, deadline), method="HEAD", body_limit_bytes=0)
    answer = await authenticator.send(head)
    if answer.status in _HEAD_REFUSED or (answer.status == _OK and not _stated_digest(answer)):
        get = replace(_get(base_url, image, deadline), hashed=_algorithm(image))
        answer = await authenticator.send(get)
    if answer.is_page and (answer.status == _OK or answer.proxy):
        raise UnreachableError(registry, page_reason(answer), Fault.ANSWERED)
    if answer.status == _OK:
        return _found(answer, image)
    return _missing(registry, answer, image)


async def find_platforms(
    base_url: str, authenticator: Authenticator, image: Reference, deadline: float
) -> tuple[str, ...]:
    """`os/architecture` of each manifest in the index of `image`; none where that is no index.

    Raises UnauthorizedError, UnreachableError.
    """
    answer = await authenticator.send(_get(base_url, image, deadline))
    return platforms_in(answer.body) if answer.status == _OK else ()


def _get(base_url: str, image: Reference, deadline: float) -> Ask:
    return Ask(
        "GET",
        f"{base_url}/v2/{image.path}/manifests/{image.manifest_reference}",
        deadline,
        body_limit_bytes=MANIFEST_LIMIT_BYTES,
        accept=ACCEPT,
        scope=f"repository:{image.path}:pull",
    )


def _stated_digest(answer: Answer) -> str:
    """Return a well-formed Docker-Content-Digest, or the empty string."""
    digest = answer.headers.get("Docker-Content-Digest", "")
    return digest if _DIGEST.fullmatch(digest) else ""


def _found(answer: Answer, image: Reference) -> ManifestAnswer:
    wanted = image.digest or ""
    digest = _stated_digest(answer) or _computed_digest(answer)
    if wanted and digest != wanted:
        reason = f"answers with {digest}" if digest else "answers without a digest"
        return ManifestAnswer(Outcome.ABSENT, None, f"{reason} where {wanted} was asked for")
    return ManifestAnswer(Outcome.FOUND, digest or None)


def _algorithm(image: Reference) -> str:
    """Return the algorithm of the digest that was asked for, else sha256."""
    name = (image.digest or "").partition(":")[0]
    return name if name in _ALGORITHMS else "sha256"


def _computed_digest(answer: Answer) -> str:
    """Return the digest of a manifest's bytes; "" for schema 1, whose digest leaves parts out."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return "" if media_type in _SCHEMA1 else answer.digest


def _missing(registry: str, answer: Answer, image: Reference) -> ManifestAnswer:
    """Tell "not there" from "could not tell", and both from "kept back" (Harbor's policies)."""
    codes = error_codes(answer.body)
    if answer.status in (_NOT_FOUND, _GONE):
        return ManifestAnswer(Outcome.ABSENT, None, codes)
    code = codes.split(", ")[0]
    is_invalid = code in _INVALID_NAMES or (code == _NO_PROJECT and "/" not in image.path)
    if answer.status == _BAD_REQUEST and is_invalid:
        return ManifestAnswer(
            Outcome.ABSENT, None, f"the registry does not take such a name ({codes})"
        )
    if answer.status == _WITHHELD:
        reason = f"a policy of the registry keeps this back (412{f' {codes}' if codes else ''})"
        raise UnauthorizedError(registry, reason)
    raise UnreachableError(registry, status_reason(answer), Fault.ANSWERED)


def page_reason(answer: Answer) -> str:
    """Return what a web page in place of an answer means to an operator."""
    what = f"{answer.origin} answers with a web page ({answer.status}), as no registry does"
    return what + answer.through


def status_reason(answer: Answer) -> str:
    """Return what a status that answers nothing means to an operator."""
    codes = error_codes(answer.body)
    reason = f"{answer.origin} answered {answer.status}" + (f" ({codes})" if codes else "")
    reason += answer.through
    if answer.status == _TOO_MANY:
        wait = answer.headers.get("Retry-After", "")
        after = f"; retry after {wait} s" if _SECONDS.fullmatch(wait) else ""
        return f"{reason}: too many requests{after}"
    if answer.status == _BAD_REQUEST and b"HTTPS" in answer.body and answer.origin.scheme == "http":
        return f"{reason}: it speaks TLS; write https:// in its address"
    if answer.status >= 500:
        return f"{reason}: the registry, or what is in front of it, has a fault of its own"
    return f"{reason}, which says nothing about the image"


def platforms_in(index: bytes) -> tuple[str, ...]:
    """Each platform once, in order; what is no index, or has none, is empty."""
    manifests = (object_in(index) or {}).get("manifests")
    entries = manifests if isinstance(manifests, list) else []
    named = (_platform(entry.get("platform")) for entry in entries if isinstance(entry, dict))
    return tuple(dict.fromkeys(filter(None, named)))[:PLATFORMS_LIMIT]


def _platform(tree: Any) -> str:
    """`linux/arm64/v8`; "" where it says none, as the entries of attestations do."""
    if not isinstance(tree, dict):
        return ""
    words = [tree.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(word, str) and len(word) <= _WORD_LIMIT for word in words):
        return ""
    return "" if "unknown" in words else "/".join(filter(None, words))
