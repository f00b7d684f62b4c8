"""A client of registries, and registries that it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimcore.registry.client import RegistryClient
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    """Patient enough for a machine that is busy."""
    client = RegistryClient([], probe_timeout_s=10.0)
    yield client
    await client.aclose()


@pytest.fixture
async def demo() -> AsyncIterator[ScriptedRegistry]:
    """A registry without an image, that asks for no login."""
    async with ScriptedRegistry() as registry:
        yield registry


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRegistry]:
    """Another host, as far as an origin goes; it would take any credentials."""
    async with ScriptedRegistry() as registry:
        registry.add_image("library/nginx", "latest", b"other")
        yield registry


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCA:
    """An authority that nobody knows."""
    return PrivateCA(tmp_path)
