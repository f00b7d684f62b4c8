"""How the stand-in pulls: from a registry over HTTP, as containerd does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from shimcore.demo.registry_images import OCI_MANIFEST, digest_of
from shimcore.demo.runtime_images import PulledImage, pullable
from shimcore.demo.runtime_rpc import StatusError
from shimcore.pb import cri_pb2
from shimcore.reference import Reference
from shimcore.runtime.errors import StatusCode

Puller = Callable[[str, cri_pb2.AuthConfig | None], Awaitable[PulledImage]]
"""Pulls a name with credentials; raises StatusError to fail with a status of its choice."""

TIMEOUT_S = 30.0


class Pull:
    """One pull of `reference`: manifest, then config and layers, each with its digest checked."""

    accepted: tuple[str, ...] = (OCI_MANIFEST,)

    def __init__(self, http: httpx.AsyncClient, reference: Reference) -> None:
        self._http = http
        self._reference = reference
        self._path = f"/v2/{reference.path}"

    async def run(self) -> PulledImage:
        """What the registry has given. Raises StatusError and httpx.HTTPError."""
        body, media_type = await self.manifest(self._reference.manifest_reference)
        digest = digest_of(body)
        body = await self.of_platform(body, media_type)
        manifest = json.loads(body)
        config = await self.blob("config", manifest["config"])
        size = len(body) + len(config)
        for layer in manifest["layers"]:
            size += len(await self.blob("layer", layer))
        user = json.loads(config).get("config", {}).get("User", "")
        return PulledImage(manifest["config"]["digest"], digest, size, media_type, user)

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """Bytes and media type of the manifest with the tag or digest `wanted`."""
        headers = {"Accept": ", ".join(self.accepted)}
        response = await self._http.get(f"{self._path}/manifests/{wanted}", headers=headers)
        self.check_status(response)
        if wanted.startswith("sha256:"):
            self.check(wanted, response.content)
        return response.content, response.headers.get("content-type", OCI_MANIFEST)

    async def of_platform(self, body: bytes, media_type: str) -> bytes:
        """The manifest that a manifest leads to: itself."""
        del media_type
        return body

    async def blob(self, kind: str, descriptor: Mapping[str, Any]) -> bytes:
        """A blob's bytes."""
        del kind
        response = await self._http.get(f"{self._path}/blobs/{descriptor['digest']}")
        self.check_status(response)
        self.check(str(descriptor["digest"]), response.content)
        return response.content

    def check_status(self, response: httpx.Response) -> None:
        """Raises StatusError for anything but a success."""
        if response.status_code == httpx.codes.NOT_FOUND:
            raise failed(self._reference, StatusCode.NOT_FOUND, f"{self._reference}: not found")
        if not response.is_success:
            status = f"{response.status_code} {response.reason_phrase}"
            details = f"unexpected status from GET request to {response.url}: {status}"
            raise failed(self._reference, StatusCode.UNKNOWN, details)

    def check(self, digest: str, content: bytes) -> None:
        """Raises StatusError for content with another digest."""
        if digest_of(content) != digest:
            details = f"{digest}: got {digest_of(content)}"
            raise failed(self._reference, StatusCode.FAILED_PRECONDITION, details)


class RegistryPuller:
    """Pulls from the registry that a name says, over plain HTTP."""

    async def __call__(self, image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        """What the registry gives for `image`; raises StatusError as containerd would."""
        reference = pullable(image)
        try:
            async with self.client(reference.domain, auth) as http:
                return await self.pull(http, reference).run()
        except httpx.HTTPError as error:
            details = f"failed to do request to {reference.domain}: {type(error).__name__}: {error}"
            raise failed(reference, StatusCode.UNKNOWN, details) from error

    def client(self, host: str, auth: cri_pb2.AuthConfig | None) -> httpx.AsyncClient:
        """A client of the registry at `host`, with its login."""
        return httpx.AsyncClient(
            base_url=f"http://{host}",
            auth=(auth.username, auth.password) if auth else None,
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def pull(self, http: httpx.AsyncClient, reference: Reference) -> Pull:
        """One pull by that client."""
        return Pull(http, reference)


def failed(reference: Reference, code: StatusCode, why: str) -> StatusError:
    """The status of a pull that has failed."""
    return StatusError(code, f'failed to pull and unpack image "{reference}": {why}')
