"""A runtime, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimcore.runtime.client import RuntimeClient
from tests.support.scripted_runtime import ScriptedRuntime, pull_out_of_thin_air


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ScriptedRuntime]:
    """A stand-in runtime that pulls anything."""
    path = str(tmp_path / "runtime.sock")
    async with ScriptedRuntime(path, puller=pull_out_of_thin_air) as started:
        yield started


@pytest.fixture
async def client(runtime: ScriptedRuntime) -> AsyncIterator[RuntimeClient]:
    """Another program than kubelet, that calls it."""
    async with RuntimeClient(runtime.socket_path) as client:
        yield client
