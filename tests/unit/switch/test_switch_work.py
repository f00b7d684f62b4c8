"""What is asked of systemd has its bound, and what the undo needs is noted before."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.switch.handle import Handle
from shimcore.switch.journal import Journal
from shimcore.switch.undo import HALT, HALT_DUE
from shimcore.switch.work import UNIT_S, SwitchControl
from shimcore.systemd.units import BYPASS, SERVICE, SOCKET
from tests.unit.systemd.machines import NotedSystemd

HEALTH_S = 20.0


class Bounded(NotedSystemd):
    """Notes the bounds, too."""

    def __init__(self, *active: str) -> None:
        super().__init__(active)
        self.bounds: list[float | None] = []

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Note both."""
        self.bounds.append(timeout_s)
        super().run(*arguments)


class Held(Handle):
    """Notes what it is allowed."""

    def __init__(self) -> None:
        self.allowed: list[float] = []

    def allow(self, seconds: float) -> None:
        """Note it."""
        self.allowed.append(seconds)


@pytest.mark.parametrize(
    ("serving", "arguments", "bound"),
    [
        (True, ("restart", "kubelet.service"), HEALTH_S),
        (True, ("restart", SERVICE), HEALTH_S),
        (False, ("start", SERVICE), UNIT_S),
        (True, ("restart", "containerd.service"), UNIT_S),
    ],
)
def test_bounds(serving: bool, arguments: tuple[str, ...], bound: float, tmp_path: Path) -> None:
    """With the timer's own time, the undo begins when a unit has had its own."""
    systemd, held = Bounded(), Held()
    control = SwitchControl(
        systemd, Journal(tmp_path), held, HEALTH_S, serving=serving, when_stopped=(HALT, HALT_DUE)
    )
    control.run(*arguments, timeout_s=90)
    assert systemd.bounds == [bound]
    assert held.allowed == [bound - HEALTH_S]


def test_a_stop_is_noted_first(tmp_path: Path) -> None:
    """Once, however often it is stopped."""
    journal = Journal(tmp_path / "journal")
    journal.begin()
    control = SwitchControl(
        NotedSystemd(), journal, Held(), HEALTH_S, serving=False, when_stopped=(HALT, HALT_DUE)
    )
    for _ in range(2):
        control.run("stop", SOCKET, SERVICE, BYPASS)
    entries = sorted((tmp_path / "journal").iterdir())
    assert [each.read_text() for each in entries] == [f"{HALT}\n", f"{HALT_DUE}\n"]


def test_whether_the_service_has_begun(tmp_path: Path) -> None:
    """One that runs on has not read what is new."""
    systemd = Bounded(SERVICE)
    control = SwitchControl(
        systemd, Journal(tmp_path), Held(), HEALTH_S, serving=True, when_stopped=(HALT, HALT_DUE)
    )
    control.run("daemon-reload")
    control.run("start", SERVICE)
    assert not control.began_shim
    control.run("restart", SERVICE)
    assert control.began_shim
