"""How the stand-in pulls: from the registry that a name says, over plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx

from shimcore.demo.registry_images import digest_of
from shimcore.demo.runtime_images import PulledImage, pullable
from shimcore.demo.runtime_rpc import StatusError
from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode

Puller = Callable[[str, cri_pb2.AuthConfig | None], Awaitable[PulledImage]]
"""Pulls a name with credentials; raises StatusError to fail with a status of its choice."""

TIMEOUT_S = 30.0


async def pull(image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
    """Manifest, then config and layers, each with its digest checked."""
    reference = pullable(image)
    http = httpx.AsyncClient(
        base_url=f"http://{reference.domain}/v2/{reference.path}",
        auth=(auth.username, auth.password) if auth else None,
        timeout=TIMEOUT_S,
        trust_env=False,
    )
    try:
        async with http:
            body = await _content(http, f"manifests/{reference.manifest_reference}")
            manifest = json.loads(body)
            size = len(body)
            for blob in (manifest["config"], *manifest["layers"]):
                content = await _content(http, f"blobs/{blob['digest']}")
                if digest_of(content) != blob["digest"]:
                    raise StatusError(StatusCode.FAILED_PRECONDITION, f"not {blob['digest']}")
                size += len(content)
    except httpx.HTTPError as error:
        details = f"failed to pull image {image}: {type(error).__name__}: {error}"
        raise StatusError(StatusCode.UNKNOWN, details) from error
    return PulledImage(manifest["config"]["digest"], digest_of(body), size)


async def _content(http: httpx.AsyncClient, path: str) -> bytes:
    """What is there. Raises httpx.HTTPError."""
    return (await http.get(path)).raise_for_status().content
