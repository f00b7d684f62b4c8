"""`python -m tests.soak --seconds 600`: exit status 1 when anything was not as it should be."""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc.aio

from tests.e2e.support.process import free_port
from tests.soak.bed import Bed
from tests.soak.faults import FaultError, Faults
from tests.soak.load import CONTAINERD, SHOWN, STAND_IN, Ledger, Load, channel, unary
from tests.soak.runtime import ID_BYTES

# The next call works this soon after a fault, and all that is under load a little later.
NEXT_CALL_S = 10.0
ALL_CALLS_S = 25.0
# Connections that end may linger for ten seconds (relay/proxy_connection.py).
BACK_S = 20.0
SPARE_FILES = 32
SPARE_MIB = 40.0


class Soak:
    """One run. `back` is what descriptors and memory have to come back to."""

    def __init__(self, bed: Bed, seed: int) -> None:
        self.bed = bed
        self.ledger = Ledger()
        self.chance = random.Random(seed)
        self.faults = Faults(bed, self.chance)
        self.done: Counter[str] = Counter()
        self.slowest_s: dict[str, float] = {}
        self.highest_mib = 0.0
        self.last_mib = 0.0
        self.usual = (0, 0.0)

    async def run(self, seconds: float) -> None:
        await asyncio.to_thread(self.bed.start)
        kinds = STAND_IN if self.bed.containerd is None else CONTAINERD
        load = Load(self.bed.shim.socket, self.ledger, self.chance.randrange(1 << 30), kinds)
        self.ledger.enter("start")
        load.start()
        await self.recover("start", load)
        await asyncio.sleep(min(3.0, seconds / 10))
        self.measure()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                names = list(self.faults.all())
                self.chance.shuffle(names)
                for name in names:
                    if time.monotonic() < end:
                        await self.one(name, load)
        finally:
            await load.stop()
        self.check_journal()

    async def one(self, name: str, load: Load) -> None:
        """One fault, and everything back to what it was."""
        pid = self.bed.pid
        self.done[name] += 1
        self.ledger.enter(name)
        try:
            await self.faults.all()[name]()
        except FaultError as error:
            self.ledger.violation(str(error))
        await self.recover(name, load)
        if pid != self.bed.pid:
            await asyncio.sleep(1)
            self.measure()
        else:
            await self.come_back()
        self.ledger.enter("")
        await asyncio.sleep(0.5)

    async def recover(self, name: str, load: Load) -> None:
        """The next call works, and then all of the load's."""
        if self.bed.shim_ended():
            self.ledger.violation("the shim has ended by itself")
            await asyncio.to_thread(self.bed.start_shim)
        started = time.monotonic()
        while True:
            try:
                async with channel(self.bed.shim.socket) as fresh:
                    await unary(fresh, self.bed.probe.path, self.bed.probe.request)
                break
            except grpc.aio.AioRpcError as error:
                if time.monotonic() - started > NEXT_CALL_S:
                    self.ledger.violation(f"no call works after {NEXT_CALL_S:g} s: {error}")
                    break
                await asyncio.sleep(0.05)
        took_s = time.monotonic() - started
        self.slowest_s[name] = max(took_s, self.slowest_s.get(name, 0))
        self.ledger.enter(f"after {name}")
        if not await load.all_succeed(ALL_CALLS_S):
            self.ledger.violation(f"a client has had no answer for {ALL_CALLS_S:g} s")

    def measure(self) -> None:
        """What a new process takes under this load is what it has to come back to."""
        self.usual = (self.bed.files(), self.bed.rss_mib())

    async def come_back(self) -> None:
        """Descriptors and memory are what they were before."""
        files, mib = self.usual
        deadline = time.monotonic() + BACK_S
        while True:
            now = (self.bed.files(), self.bed.rss_mib())
            self.highest_mib = max(self.highest_mib, now[1])
            self.last_mib = now[1]
            if now[0] <= files + SPARE_FILES and now[1] <= mib + SPARE_MIB:
                return
            if time.monotonic() > deadline:
                self.ledger.violation(
                    f"{now[0]} descriptors and {now[1]:.0f} MiB, before {files} and {mib:.0f}"
                )
                self.measure()
                return
            await asyncio.sleep(0.2)

    def check_journal(self) -> None:
        """Every call that was answered was carried out, and none twice."""
        journal = self.bed.journal.read_bytes()
        probes = journal.replace(b"probe", b"")
        ids = Counter(probes[at : at + ID_BYTES] for at in range(0, len(probes), ID_BYTES))
        doubled = [name for name, count in ids.items() if count > 1]
        lost = [name for name in self.ledger.once if name not in ids]
        if doubled:
            self.ledger.violation(f"{len(doubled)} calls were carried out twice")
        if lost:
            self.ledger.violation(f"{len(lost)} calls were answered and not carried out")

    def report(self, seconds: float) -> str:
        """The counts."""
        ledger = self.ledger
        lines = [f"{'fault':34} {'times':>5} {'next call after':>16}"]
        lines += [
            f"{name:34} {count:5} {self.slowest_s.get(name, 0):14.2f} s"
            for name, count in sorted(self.done.items())
        ]
        answered = ", ".join(f"{kind} {n}" for kind, n in sorted(ledger.answered.items()))
        failed = ", ".join(f"{k} {c} {n}" for (k, c), n in sorted(ledger.failed.items()))
        peaks = ", ".join(f"{k} {v:.0f}" for k, v in sorted(self.faults.peaks_mib.items()))
        lines += [
            f"{sum(self.done.values())} faults in {seconds:.0f} s",
            f"calls answered, each with its own answer: {answered}",
            f"calls that failed while something was broken: {failed or 'none'}",
            f"memory of the shim, MiB: new {self.usual[1]:.0f}, last {self.last_mib:.0f}, "
            f"{self.highest_mib:.0f} at most between faults; at most during {peaks or '—'}",
            f"violations: {len(ledger.violations)}",
            *ledger.violations[:SHOWN],
        ]
        return "\n".join(lines)


async def soak(
    folder: Path, seconds: float, seed: int, *, containerd: bool
) -> tuple[str, list[str]]:
    """One run: the counts, and what was not as it should be."""
    bed = Bed(folder, free_port(), containerd=containerd)
    run = Soak(bed, seed)
    started = time.monotonic()
    try:
        await run.run(seconds)
    finally:
        bed.close()
    return run.report(time.monotonic() - started), run.ledger.violations


def main() -> int:
    """0 when nothing was wrong."""
    parser = argparse.ArgumentParser("tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument(
        "--runtime", choices=("stand-in", "containerd"), default="stand-in", help="needs root"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {arguments.seed}, folder {folder}", flush=True)
    containerd = arguments.runtime == "containerd"
    counts, violations = asyncio.run(
        soak(folder, arguments.seconds, arguments.seed, containerd=containerd)
    )
    print(counts)
    if not arguments.keep and not violations:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
