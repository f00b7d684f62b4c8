"""What is told to systemd by the clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from shimcore.daemon import background
from shimcore.daemon.front import Front
from shimcore.daemon.shim import RuntimeReport, Shim


class FakeShim:
    """A shim whose runtime is well."""

    socket = "/nowhere/shim.sock"

    async def runtime_report(self) -> RuntimeReport:
        return RuntimeReport("/nowhere/runtime.sock", None, ready=True, detail="")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd has been told, which wants to hear something every 60 ms."""
    told: list[str] = []
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    monkeypatch.setattr(background, "notify", told.append)
    return told


async def watch_for(duration_s: float, front: object) -> None:
    watching = background.watch(cast("Shim", FakeShim()), cast("Front", front))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watching, duration_s)


async def test_nobody_accepts_for_long(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand-over has its time; a process that then still serves nobody is systemd's to end."""
    monkeypatch.setattr(background, "UNSERVED_S", 0.1)
    await watch_for(0.5, SimpleNamespace(acceptor=None))
    assert 1 <= said.count("WATCHDOG=1") <= 6
