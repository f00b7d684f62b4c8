"""Questions about one image, and what a registry has seen of them."""

from __future__ import annotations

from shimcore.config import Registry
from shimcore.registry.answers import ManifestAnswer
from shimcore.registry.client import RegistryClient
from tests.support.registries import LOGIN, candidate
from tests.support.registry_http import Request
from tests.support.scripted_registry import ScriptedRegistry

USERS = {LOGIN.username: LOGIN.password}
MANIFEST = "/v2/library/nginx/manifests/latest"
SCOPE = "service=demo-registry&scope=repository%3Alibrary%2Fnginx%3Apull"


def wire(demo: ScriptedRegistry) -> list[tuple[str, str]]:
    """Return each request with the scheme of its Authorization."""
    return [
        (f"{request.method} {request.target}", request.auth_scheme) for request in demo.requests
    ]


def manifests(request: Request) -> bool:
    """Whether it asks for a manifest."""
    return "/manifests/" in request.path


async def ask(client: RegistryClient, registry: Registry, tag: str = "latest") -> ManifestAnswer:
    """The answer about nginx."""
    return await client.head_manifest(registry, candidate(registry, tag=tag))


def always(_: Request) -> bool:
    """Whatever it asks for."""
    return True
