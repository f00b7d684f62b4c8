"""Which platforms an image is there for (OCI image-spec, image-index.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shimcore.registry.http.transport import Ask
from shimcore.registry.manifest import ACCEPT, MANIFEST_LIMIT_BYTES

if TYPE_CHECKING:
    from shimcore.reference import Reference
    from shimcore.registry.auth import Authenticator

PLATFORMS_LIMIT = 32
"""Images have about a dozen."""
_WORD_LIMIT = 32
_OK = 200


async def find_platforms(
    base_url: str, authenticator: Authenticator, image: Reference, deadline: float
) -> tuple[str, ...]:
    """`os/architecture` of each manifest in the index of `image`; none where that is no index.

    Raises UnauthorizedError, UnreachableError.
    """
    ask = Ask(
        "GET",
        f"{base_url}/v2/{image.path}/manifests/{image.manifest_reference}",
        deadline,
        body_limit_bytes=MANIFEST_LIMIT_BYTES,
        accept=ACCEPT,
    )
    answer = await authenticator.send(ask, f"repository:{image.path}:pull")
    return platforms_in(answer.body) if answer.status == _OK else ()


def platforms_in(index: bytes) -> tuple[str, ...]:
    """Each platform once, in order; what is no index, or has none, is empty."""
    try:
        tree = json.loads(index)
    except (ValueError, RecursionError):
        return ()
    manifests = tree.get("manifests") if isinstance(tree, dict) else None
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
