"""How the stand-in pulls: from the registry that a name says, over plain HTTP."""

from __future__ import annotations

import json

import httpx

from shimcore.demo.process import DemoError
from shimcore.demo.registry_images import digest_of
from shimcore.pb import containerd_pb2, cri_pb2
from shimcore.reference import Reference

TIMEOUT_S = 30.0


async def pulled(
    image: Reference, auth: cri_pb2.AuthConfig
) -> tuple[containerd_pb2.Descriptor, str]:
    """The image's manifest, once all of it was fetched, and the image's ID, its config's digest.

    Raises DemoError and httpx.HTTPError.
    """
    async with httpx.AsyncClient(
        base_url=f"http://{image.domain}/v2/{image.path}",
        auth=(auth.username, auth.password),
        timeout=TIMEOUT_S,
        trust_env=False,
    ) as http:
        answer = (await http.get(f"manifests/{image.manifest_reference}")).raise_for_status()
        manifest = json.loads(answer.content)
        size = len(answer.content)
        for blob in (manifest["config"], *manifest["layers"]):
            content = (await http.get(f"blobs/{blob['digest']}")).raise_for_status().content
            if digest_of(content) != blob["digest"]:
                raise DemoError(f"{blob['digest']}: what came has another digest")
            size += len(content)
    target = containerd_pb2.Descriptor(
        media_type=answer.headers["content-type"], digest=digest_of(answer.content), size=size
    )
    return target, manifest["config"]["digest"]
