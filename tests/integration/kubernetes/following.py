"""A follower at work, and what it told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from shimcore.cluster.documents import ClusterPart, Kind
from shimcore.cluster.pace import Pace
from shimcore.cluster.watch import Condition, Follower
from shimcore.config.model import KubernetesSource
from tests.support.polling import until

PASSWORD = "pa55-w0rd-zx81"


class QuickPace(Pace):
    """The same order of things in fractions of a second."""

    def start(self, *, known: bool) -> float:
        return 0.0

    def watch(self) -> float:
        return 60.0

    def spread(self) -> float:
        return 0.02

    def retry(self, failures: int) -> float:
        return 0.05

    def refused(self, refusals: int) -> float:
        return 0.05


class Followed:
    """A follower at work, and what it told."""

    def __init__(self, source: KubernetesSource, known: ClusterPart | None) -> None:
        self.told: list[ClusterPart] = []
        self.follower = Follower(source, known, self._tell, pace=QuickPace(), sleep=_short)

    async def _tell(self, part: ClusterPart) -> None:
        self.told.append(part)

    @property
    def condition(self) -> Condition:
        return self.follower.status.condition

    def text(self, kind: Kind) -> str:
        """What was told last of a kind; empty when it is not there."""
        document = self.told[-1].documents.get(kind) if self.told else None
        return document.text if document else ""

    async def until(self, done: Callable[[], bool]) -> None:
        await until(done, lambda: f"{self.condition}, last told {self.told[-1:]}")


async def _short(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.05))


@asynccontextmanager
async def followed(
    source: KubernetesSource, known: ClusterPart | None = None
) -> AsyncIterator[Followed]:
    one = Followed(source, known)
    task = asyncio.ensure_future(one.follower.run())
    try:
        yield one
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
