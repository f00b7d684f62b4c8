"""An event loop whose clock jumps over every wait, for what takes hours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Time passes only where all tasks wait for it. Not for real input and output."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_s = 0.0

    def time(self) -> float:
        """Seconds, jumps included."""
        return super().time() + self._ahead_s

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._ahead_s += max(scheduled[0].when() - self.time(), 0.0)
        super()._run_once()  # type: ignore[misc]


def run_simulated(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end on a simulated clock."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(work)
