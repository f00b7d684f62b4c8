"""Calls that wait for a decision while the configuration changes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from shimcore.daemon.generation import Generations
from shimcore.heldcall import AS_IT_CAME
from tests.unit.images.fakes import (
    CREATE,
    PULL,
    STATUS,
    THREE,
    FakeRuntime,
    config_of,
    create_request,
    pull_request,
    status_request,
)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (PULL, pull_request("nginx")),
        (STATUS, status_request("nginx")),
        (CREATE, create_request("nginx")),
    ],
)
async def test_one_whose_name_is_excluded_meanwhile(
    method: str, message: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on as it came: the new configuration has nothing to ask."""
    config = config_of(state_dir=str(tmp_path))
    generations = Generations(config, FakeRuntime())
    call, decision = generations.open(method.encode(), message, None, ())
    assert decision is None
    excluding = config_of(f'{THREE}exclude: ["nginx"]\n', state_dir=str(tmp_path))
    generations.replace(excluding)
    await asyncio.sleep(0)
    assert await call.decide() == AS_IT_CAME
    call.finished(0, False, "")
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert generations.current.deciding == 0
    await generations.close(1)
