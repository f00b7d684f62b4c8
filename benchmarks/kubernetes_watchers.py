"""What many nodes cost the API server: 1,000 followers against the stand-in server.

    python -m benchmarks.kubernetes_watchers [--nodes 1000]

Everything is real but time: followers, HTTP client, sockets and the server's list and watch.
The event loop's clock, which all of them live by, runs as ours where many requests come
together, and 5 to 60 times as fast in quiet hours. Rates are per second of that clock, as
counted, and times ten for 10,000 nodes. One process runs both ends; it takes eight minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import logging
import random
import resource
import selectors
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from shimcore.cluster import api as kubernetes_api
from shimcore.cluster import server as cluster_server
from shimcore.cluster.documents import ClusterPart
from shimcore.cluster.kubeconfig import Kubeconfig, read_kubeconfig
from shimcore.cluster.pace import Pace
from shimcore.cluster.watch import Condition, Follower
from shimcore.config.model import KubernetesSource
from tests.support.apiserver import StandInApi

EXTRAPOLATED_NODES = 10_000


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs `speed` times as fast as ours."""

    def __init__(self) -> None:
        self._speed, self._base_s, self._since = 1.0, 0.0, time.monotonic()
        super().__init__(_ScaledSelector(lambda: self._speed))

    def time(self) -> float:
        """Seconds of the fast clock."""
        return self._base_s + (time.monotonic() - self._since) * self._speed

    def run_at(self, speed: float) -> None:
        """Change the speed from here on."""
        self._base_s, self._since = self.time(), time.monotonic()
        self._speed = speed


class _ScaledSelector(selectors.DefaultSelector):
    """Waits as long as the fast clock needs for it."""

    def __init__(self, speed: Callable[[], float]) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / self._speed())


@dataclass(frozen=True)
class Phase:
    """What one event brought: requests, and how they were spread over the nodes' time."""

    name: str
    nodes_time_s: float
    requests: int
    lists: int
    watches: int
    mean_per_s: float
    at_10000_mean_per_s: float
    peak_per_s: float | None
    """In the busiest ten seconds; None at a faster clock, where a stall of ours looks like one."""
    at_10000_peak_per_s: float | None


class Fleet:
    """Followers of one server."""

    def __init__(self, server: StandInApi, nodes: int, folder: Path) -> None:
        self.server, self.nodes = server, nodes
        source = KubernetesSource(True, str(server.kubeconfig(folder / "kubeconfig")))
        self.told: Counter[int] = Counter()
        self.followers = [self._follower(number, source) for number in range(nodes)]
        self._tasks: list[asyncio.Task[object]] = []

    def _follower(self, number: int, source: KubernetesSource) -> Follower:
        async def tell(_part: ClusterPart) -> None:
            self.told[number] += 1

        pace = Pace(random.Random(number))
        return Follower(source, ClusterPart(source, {}), tell, pace=pace)

    def start(self) -> None:
        """All at the same moment."""
        self._tasks = [asyncio.ensure_future(one.run()) for one in self.followers]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    @property
    def watching(self) -> int:
        return sum(one.status.condition is Condition.WATCHING for one in self.followers)

    async def phase(self, name: str, seconds: float, speed: float) -> Phase:
        """Let `seconds` pass, at that speed, and count."""
        loop = cast("FastLoop", asyncio.get_running_loop())
        loop.run_at(speed)
        self.server.asked.clear()
        begun = loop.time()
        await asyncio.sleep(seconds)
        asked = list(self.server.asked)
        passed_s = loop.time() - begun
        tens = Counter(int((one.at - begun) / 10) for one in asked)
        mean, peak = len(asked) / passed_s, max(tens.values(), default=0) / 10
        factor = EXTRAPOLATED_NODES / self.nodes
        verbs = Counter(one.verb for one in asked)
        print(f"{name}: {len(asked)} requests", file=sys.stderr)
        return Phase(
            name,
            round(passed_s),
            len(asked),
            verbs["list"],
            verbs["watch"],
            round(mean, 2),
            round(mean * factor, 1),
            round(peak, 1) if speed == 1 else None,
            round(peak * factor) if speed == 1 else None,
        )


async def simulate(nodes: int, folder: Path) -> list[Phase]:
    """The phases of a bad day."""
    server = StandInApi(bookmark_s=60.0)
    await server.start()
    server.put("ConfigMap", "timeout: 5m")
    fleet = Fleet(server, nodes, folder)
    phases = []
    fleet.start()
    phases.append(await fleet.phase("all boot at once", 40, 1))
    _check(fleet, fleet.watching == nodes, "not all watch")
    phases.append(await fleet.phase("a quiet hour", 3600, 30))
    server.put("ConfigMap", "timeout: 6m")
    phases.append(await fleet.phase("a change", 20, 1))
    _check(fleet, all(fleet.told[number] == 2 for number in range(nodes)), "not all were told")
    server.cut()
    phases.append(await fleet.phase("every connection is cut", 40, 1))
    _check(fleet, fleet.watching == nodes, "not all came back")
    await fleet.phase("a while", 120, 5)  # or else the next cut counts as a second failure
    server.pass_versions(1000)
    server.put("ConfigMap", "timeout: 7m")
    server.forget()
    server.cut()
    phases.append(await fleet.phase("cut, and every version is too old", 65, 1))
    _check(fleet, all(fleet.told[number] == 3 for number in range(nodes)), "a change was missed")
    await server.stop()
    phases.append(await fleet.phase("away for an hour", 3600, 60))
    await server.start()
    phases.append(await fleet.phase("back", 330, 5))
    _check(fleet, fleet.watching == nodes, "not all came back")
    await fleet.stop()
    await server.stop()
    return phases


def _check(fleet: Fleet, held: bool, what: str) -> None:
    if not held:
        told = Counter(fleet.told.values())
        raise SystemExit(f"{what}: {fleet.watching} of {fleet.nodes} watch, told: {dict(told)}")


def table(phases: list[Phase], nodes: int) -> str:
    """The figures as Markdown."""
    lines = [
        f"| event | {nodes:,} nodes: lists + watches | a second | 10,000 nodes: a second |"
        " in the busiest 10 s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} ({one.nodes_time_s:.0f} s) | {one.lists} + {one.watches} | {one.mean_per_s}"
        f" | {one.at_10000_mean_per_s} | {one.at_10000_peak_per_s or '-'} |"
        for one in phases
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # No TLS here; a context for each of a thousand clients of one process is only memory.
    context = ssl.create_default_context()
    type.__setattr__(Kubeconfig, "tls", lambda _: context)
    # Both ends share one core here: a late answer says nothing of a server.
    vars(cluster_server).update(ANSWER_S=3600.0, _TIMEOUT=None)
    vars(kubernetes_api).update(SILENCE_S=3600.0)
    # Nor is a file that is the same for all read a thousand times.
    vars(kubernetes_api)["read_kubeconfig"] = functools.cache(read_kubeconfig)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=FastLoop) as runner:
        phases = runner.run(simulate(arguments.nodes, Path(folder)))
    if arguments.json:
        print(json.dumps([asdict(phase) for phase in phases], indent=2))
    else:
        print(table(phases, arguments.nodes))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_maxrss / 1024:.0f} MiB, {used.ru_utime:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
