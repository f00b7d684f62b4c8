"""The line that the log has for each pull."""

from __future__ import annotations

import logging

import pytest

from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from tests.unit.images.fakes import (
    HUB,
    MIRROR,
    PULL,
    Bench,
    FakeRegistries,
    failed,
)
from tests.unit.images.nginx import both, for_pod


class TestLine:
    async def test_one_line_for_a_pull_after_its_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Outcome, pod, registry, bytes and seconds; at INFO while nothing is amiss."""
        caplog.set_level(logging.DEBUG, "shimcore.images")
        bench = Bench(registries=both())
        call = bench.service.open(PULL, for_pod("web-1", {}), None)
        await call.decide()
        await bench.names.drain()
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.INFO
        for part in (
            "outcome=pulled",
            "pod=default/web-1",
            f"registry={HUB}",
            "bytes=",
            "seconds=",
        ):
            assert part in line.message

    async def test_a_registry_that_was_passed_over_is_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With its reason, so that `journalctl -p warning` shows it."""
        bench = Bench(registries=both())
        bench.runtime.failing[HUB] = failed("blob unknown")
        await bench.pull("nginx")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.WARNING
        assert f"{HUB}: pull failed (blob unknown)" in line.message

    async def test_an_image_that_is_elsewhere_is_no_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That the hub has it not is told, but nothing is wrong."""
        caplog.set_level(logging.INFO, "shimcore.images")
        bench = Bench(registries=FakeRegistries({MIRROR: Outcome.FOUND}))
        await bench.pull("nginx")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.INFO
        assert f"{HUB}: absent" in line.message

    async def test_a_failed_pull_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        """Of a call that went on as it came, too."""
        bench = Bench()
        bench.runtime.failing[HUB] = RuntimeCallError(StatusCode.NOT_FOUND, "manifest unknown")
        await bench.pull(f"{HUB}/team/app:1")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.WARNING
        assert "outcome=failed(5)" in line.message
        assert "manifest unknown" in line.message
