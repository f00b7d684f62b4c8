"""A server that stands in for the API's, and what follows it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimcore.config.model import KubernetesSource
from tests.integration.kubernetes.following import PASSWORD
from tests.support.apiserver import TOKEN, StandInApi, standing_in


@pytest.fixture
async def server() -> AsyncIterator[StandInApi]:
    async with standing_in() as started:
        yield started


@pytest.fixture
def source(server: StandInApi, tmp_path: Path) -> KubernetesSource:
    return KubernetesSource(True, str(server.kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture(autouse=True)
def no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> object:
    """Whatever happens, neither the password nor the token is in any record."""
    caplog.set_level(logging.DEBUG)
    yield
    assert PASSWORD not in caplog.text
    assert TOKEN not in caplog.text
    assert PASSWORD.encode().hex() not in caplog.text
