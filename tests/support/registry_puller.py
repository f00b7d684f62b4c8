"""Pulls as containerd does: tokens, indexes, registries elsewhere, and bytes that show."""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from shimcore.demo.registry_images import OCI_MANIFEST, digest_of
from shimcore.pb import cri_pb2
from shimcore.reference import Reference
from shimcore.runtime.errors import StatusCode
from tests.support.standin_content import ContentTable
from tests.support.standin_images import PulledImage, pullable
from tests.support.standin_rpc import StatusError

TIMEOUT_S = 30.0

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
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

    @property
    def encoded(self) -> str:
        """As Basic authentication has it (RFC 7617)."""
        return base64.b64encode(f"{self.username}:{self.secret}".encode()).decode()


class RegistryPuller:
    """Fetches manifest, config and layers, and shows in `content` how far it is.

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
        try:
            async with self._client(reference.domain, auth) as http:
                return await _Pull(http, reference, self.content).run()
        except httpx.HTTPError as error:
            details = f"failed to do request to {reference.domain}: {type(error).__name__}: {error}"
            raise _failed(reference, StatusCode.UNKNOWN, details) from error

    def _client(self, host: str, auth: cri_pb2.AuthConfig | None) -> httpx.AsyncClient:
        host = "registry-1.docker.io" if host == "docker.io" else host
        scheme = "http" if LOOPBACK.fullmatch(host) else "https"
        return httpx.AsyncClient(
            base_url=self._hosts.get(host, f"{scheme}://{host}"),
            auth=_Challenged(login_for(host, auth)),
            verify=self._tls,
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=True,
        )


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


class _Challenged(httpx.Auth):
    """Answers the first challenge: Basic, or with a Bearer token that it fetches."""

    def __init__(self, login: Login | None) -> None:
        self._login = login
        self._authorization = ""

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED or self._authorization:
            return
        scheme, _, rest = response.headers.get("www-authenticate", "").partition(" ")
        basic = {} if self._login is None else {"Authorization": f"Basic {self._login.encoded}"}
        if scheme.lower() == "bearer":
            asked = dict(PARAMETER.findall(rest))
            query = {key: value for key, value in asked.items() if key in {"service", "scope"}}
            answer = yield httpx.Request("GET", asked["realm"], params=query, headers=basic)
            await answer.aread()
            if not answer.is_success:
                raise httpx.HTTPError(f"failed to fetch token: {answer.status_code}")
            token = answer.json().get("token") or answer.json().get("access_token", "")
            basic = {"Authorization": f"Bearer {token}"}
        if basic:
            self._authorization = basic["Authorization"]
            request.headers["Authorization"] = self._authorization
            yield request


class _Pull:
    """One pull: manifest, then config and layers, each with its digest checked.

    An index leads to the manifest of linux/amd64.
    """

    def __init__(
        self, http: httpx.AsyncClient, reference: Reference, content: ContentTable
    ) -> None:
        self._http = http
        self._reference = reference
        self._path = f"/v2/{reference.path}"
        self._content = content

    async def run(self) -> PulledImage:
        """What the registry has given. Raises StatusError and httpx.HTTPError."""
        body, media_type = await self._manifest(self._reference.manifest_reference)
        digest = digest_of(body)
        if media_type in INDEX_TYPES:
            body = (await self._manifest(_platform_digest(json.loads(body))))[0]
        manifest = json.loads(body)
        config = await self._blob("config", manifest["config"])
        size = len(body) + len(config)
        for layer in manifest["layers"]:
            size += len(await self._blob("layer", layer))
        user = json.loads(config).get("config", {}).get("User", "")
        return PulledImage(manifest["config"]["digest"], digest, size, media_type, user)

    async def _manifest(self, wanted: str) -> tuple[bytes, str]:
        """Bytes and media type of the manifest with the tag or digest `wanted`."""
        headers = {"Accept": ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, *INDEX_TYPES))}
        response = await self._http.get(f"{self._path}/manifests/{wanted}", headers=headers)
        self._check_status(response)
        body = response.content
        if wanted.startswith("sha256:"):
            self._check(wanted, body)
        self._content.whole(digest_of(body), len(body), body)
        return body, response.headers.get("content-type", OCI_MANIFEST)

    async def _blob(self, kind: str, descriptor: Mapping[str, Any]) -> bytes:
        """A blob's bytes; while they come, the content store shows how far they are."""
        digest, total = str(descriptor["digest"]), int(descriptor.get("size", 0))
        content = b""
        self._content.came(kind, digest, 0, total)
        try:
            async with self._http.stream("GET", f"{self._path}/blobs/{digest}") as response:
                self._check_status(response)
                async for part in response.aiter_bytes():
                    content += part
                    self._content.came(kind, digest, len(content), total)
            self._check(digest, content)
            self._content.whole(digest, len(content))
        finally:
            self._content.ingests.pop(digest, None)
        return content

    def _check_status(self, response: httpx.Response) -> None:
        """Raises StatusError for anything but a success."""
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _failed(self._reference, StatusCode.NOT_FOUND, f"{self._reference}: not found")
        if not response.is_success:
            status = f"{response.status_code} {response.reason_phrase}"
            details = f"unexpected status from GET request to {response.url}: {status}"
            raise _failed(self._reference, StatusCode.UNKNOWN, details)

    def _check(self, digest: str, content: bytes) -> None:
        """Raises StatusError for content with another digest."""
        if digest_of(content) != digest:
            details = f"{digest}: got {digest_of(content)}"
            raise _failed(self._reference, StatusCode.FAILED_PRECONDITION, details)


def _failed(reference: Reference, code: StatusCode, why: str) -> StatusError:
    """The status of a pull that has failed."""
    return StatusError(code, f'failed to pull and unpack image "{reference}": {why}')


def _platform_digest(index: Mapping[str, Any]) -> str:
    """The digest of the index's manifest for linux/amd64, or else of its first one."""
    manifests = index["manifests"]
    for entry in manifests:
        platform = entry.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(entry["digest"])
    return str(manifests[0]["digest"])
