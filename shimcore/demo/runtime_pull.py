"""How the stand-in pulls: from a registry over HTTP, as containerd does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from shimcore.demo.runtime_content import ContentTable
from shimcore.demo.runtime_faults import StatusError
from shimcore.demo.runtime_images import MANIFEST_TYPE, PulledImage, parsed
from shimcore.pb import cri_pb2
from shimcore.reference import ImageID, Reference
from shimcore.runtime.errors import StatusCode

Puller = Callable[[str, cri_pb2.AuthConfig | None], Awaitable[PulledImage]]
"""Pulls a name with credentials; raises StatusError to fail with a status of its choice."""

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPTED = ", ".join(
    (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json", *INDEX_TYPES)
)
TIMEOUT_S = 30.0
LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Login:
    """Name and secret for the registry that is pulled from."""

    username: str
    secret: str = ""

    def __repr__(self) -> str:
        """Only that there is one."""
        return "Login(…)"


class RegistryPuller:
    """Fetches manifest, config and layers, and checks their digests.

    `hosts` says where a registry's host is to be found (`{"sealos.hub:5000":
    "http://127.0.0.1:4711"}`); others are asked over https, loopback ones over http.
    """

    def __init__(
        self,
        hosts: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        content: ContentTable | None = None,
    ) -> None:
        self.content = content or ContentTable()
        self._hosts = dict(hosts or {})
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else True

    async def __call__(self, image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        """What the registry gives for `image`; raises StatusError as containerd would."""
        reference = pullable(image)
        host = "registry-1.docker.io" if reference.domain == "docker.io" else reference.domain
        login = login_for(host, auth)
        try:
            async with httpx.AsyncClient(
                base_url=self._base_url(host),
                verify=self._tls,
                timeout=TIMEOUT_S,
                trust_env=False,
                follow_redirects=True,
            ) as http:
                return await _Pull(http, reference, login, self.content).run()
        except httpx.HTTPError as error:
            details = f"failed to do request to {host}: {type(error).__name__}: {error}"
            raise _failed(reference, StatusCode.UNKNOWN, details) from error

    def _base_url(self, host: str) -> str:
        scheme = "http" if LOOPBACK.fullmatch(host) else "https"
        return self._hosts.get(host, f"{scheme}://{host}")


def login_for(host: str, auth: cri_pb2.AuthConfig | None) -> Login | None:
    """The credentials of `auth` if they are meant for `host` (containerd's ParseAuth).

    A server address whose host differs, or that is no URL and so has none, drops them
    without a word; an empty one means any host.
    """
    if auth is None:
        return None
    if auth.server_address and urlsplit(auth.server_address).netloc != host:
        return None
    if auth.username:
        return Login(auth.username, auth.password)
    if auth.identity_token:
        return Login("", auth.identity_token)
    if auth.auth:
        name, _, secret = base64.b64decode(auth.auth).decode().partition(":")
        return Login(name, secret.strip("\x00"))
    return None


class _Pull:
    """One pull of `reference`: manifest, then config and layers."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        reference: Reference,
        login: Login | None,
        content: ContentTable,
    ) -> None:
        self._http = http
        self._content = content
        self._reference = reference
        self._login = login
        self._authorization = ""

    async def run(self) -> PulledImage:
        body, media_type = await self._manifest(self._reference.manifest_reference)
        digest = _digest(body)
        manifest = json.loads(body)
        if media_type in INDEX_TYPES:
            body, _ = await self._manifest(_platform_digest(manifest))
            manifest = json.loads(body)
        config = await self._blob("config", manifest["config"])
        size = len(body) + len(config)
        for layer in manifest["layers"]:
            size += len(await self._blob("layer", layer))
        user = json.loads(config).get("config", {}).get("User", "")
        return PulledImage(manifest["config"]["digest"], digest, size, media_type, user)

    async def _manifest(self, wanted: str) -> tuple[bytes, str]:
        """Bytes and media type of the manifest with the tag or digest `wanted`."""
        response = await self._get(f"manifests/{wanted}", ACCEPTED)
        if wanted.startswith("sha256:"):
            self._check(wanted, response.content)
        self._content.whole(_digest(response.content), len(response.content), response.content)
        return response.content, response.headers.get("content-type", MANIFEST_TYPE)

    async def _blob(self, kind: str, descriptor: Mapping[str, Any]) -> bytes:
        """A blob's bytes; while they come, the content store shows how far they are."""
        digest, total = str(descriptor["digest"]), int(descriptor.get("size", 0))
        url = f"/v2/{self._reference.path}/blobs/{digest}"
        content = b""
        self._content.came(kind, digest, 0, total)
        try:
            async with self._http.stream("GET", url, headers=self._headers("*/*")) as response:
                self._check_status(response)
                async for part in response.aiter_bytes():
                    content += part
                    self._content.came(kind, digest, len(content), total)
            self._check(digest, content)
            self._content.whole(digest, len(content))
        finally:
            self._content.ingests.pop(digest, None)
        return content

    async def _get(self, what: str, accept: str) -> httpx.Response:
        url = f"/v2/{self._reference.path}/{what}"
        response = await self._http.get(url, headers=self._headers(accept))
        if response.status_code == httpx.codes.UNAUTHORIZED and not self._authorization:
            self._authorization = await self._answer(response.headers.get("www-authenticate", ""))
            response = await self._http.get(url, headers=self._headers(accept))
        self._check_status(response)
        return response

    def _check_status(self, response: httpx.Response) -> None:
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _failed(self._reference, StatusCode.NOT_FOUND, f"{self._reference}: not found")
        if not response.is_success:
            status = f"{response.status_code} {response.reason_phrase}"
            details = f"unexpected status from GET request to {response.url}: {status}"
            raise _failed(self._reference, StatusCode.UNKNOWN, details)

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept}
        if self._authorization:
            headers["Authorization"] = self._authorization
        return headers

    async def _answer(self, challenge: str) -> str:
        """The Authorization header that answers `challenge`; "" when there is no answer."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "bearer":
            return "Bearer " + await self._token(dict(PARAMETER.findall(rest)))
        return f"Basic {self._basic()}" if self._login else ""

    async def _token(self, challenge: dict[str, str]) -> str:
        headers = {"Authorization": f"Basic {self._basic()}"} if self._login else {}
        query = {key: value for key, value in challenge.items() if key in {"service", "scope"}}
        response = await self._http.get(challenge.get("realm", ""), params=query, headers=headers)
        if not response.is_success:
            details = f"failed to authorize: failed to fetch token: {response.status_code}"
            raise _failed(self._reference, StatusCode.UNKNOWN, details)
        answer = response.json()
        return str(answer.get("token") or answer.get("access_token", ""))

    def _basic(self) -> str:
        login = self._login or Login("")
        return base64.b64encode(f"{login.username}:{login.secret}".encode()).decode()

    def _check(self, digest: str, content: bytes) -> None:
        if _digest(content) != digest:
            details = f"{digest}: got {_digest(content)}"
            raise _failed(self._reference, StatusCode.FAILED_PRECONDITION, details)


def _platform_digest(index: Mapping[str, Any]) -> str:
    """The digest of the index's manifest for linux/amd64, or else of its first one."""
    manifests = index["manifests"]
    for entry in manifests:
        platform = entry.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(entry["digest"])
    return str(manifests[0]["digest"])


def pullable(image: str) -> Reference:
    """The name of an image that can be pulled; raises StatusError."""
    reference = parsed(image)
    if isinstance(reference, ImageID):
        raise StatusError(StatusCode.INVALID_ARGUMENT, f"cannot pull an image ID: {image}")
    return reference


def _failed(reference: Reference, code: StatusCode, why: str) -> StatusError:
    return StatusError(code, f'failed to pull and unpack image "{reference}": {why}')


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
