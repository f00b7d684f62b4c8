"""The measurements: interleaved rounds of load, starts, and memory."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.bed import DIRECT, VARIANTS, Bed, Variant
from benchmarks.cases import Case, Plan
from benchmarks.programs import program

Say = Callable[[str], None]
# Memory is looked at so many times on the way.
LOOKS = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one case through one variant."""

    p50_us: float
    p99_us: float
    calls_per_s: float
    cpu_us: float
    """CPU time of the proxy for one call; 0 for `direct`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident MiB of one variant."""

    at_start: float
    calls: int
    during: tuple[float, ...]
    """After each tenth of `calls`."""
    connections: int
    connected: float
    after: float
    """Some time after the connections have closed (`Plan.settle_s`)."""


Samples = dict[tuple[str, int, str], list[Sample]]


def load(bed: Bed, variant: Variant, case: Case, in_flight: int, plan: Plan) -> Sample:
    """Run the load once. Raises CalledProcessError when a call fails."""
    process = bed.running[variant.name]
    before = process.cpu_s()
    said = subprocess.run(
        [
            program("load"),
            *("-socket", bed.socket(variant), "-scenario", case.scenario),
            *("-inflight", str(in_flight), "-messages", str(case.messages)),
            *("-seconds", f"{plan.call_s}s", "-warm-up", f"{plan.warm_up_s}s"),
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    used_s = process.cpu_s() - before
    found = json.loads(said.stdout)
    calls = found["calls"] + found["warm_up_calls"]
    return Sample(
        found["p50_us"],
        found["p99_us"],
        found["calls_per_s"] * case.messages,
        0 if variant is DIRECT else used_s * 1e6 / calls,
    )


def rounds(bed: Bed, plan: Plan, say: Say) -> Samples:
    """All cases through all variants in turn, `plan.rounds` times."""
    samples: Samples = {}
    for number in range(plan.rounds):
        for case in plan.cases:
            for in_flight in case.in_flight:
                say(f"round {number + 1} of {plan.rounds}: {case.title}, {in_flight} in flight")
                for variant in case.variants():
                    sample = load(bed, variant, case, in_flight, plan)
                    samples.setdefault((case.scenario, in_flight, variant.name), []).append(sample)
    return samples


def starts(bed: Bed, plan: Plan, say: Say) -> dict[str, list[float]]:
    """Seconds from start to first answer, several times each, in turn; all run at the end."""
    bed.start(DIRECT)
    proxies = [variant for variant in VARIANTS if variant is not DIRECT]
    took: dict[str, list[float]] = {variant.name: [] for variant in proxies}
    for number in range(plan.starts + 1):
        for variant in proxies:
            say(f"start {number} of {plan.starts}: {variant.title}")
            if variant.name in bed.running:
                bed.stop(variant)
            ready_s = bed.start(variant)
            if number:  # the first one compiles modules
                took[variant.name].append(ready_s)
    return took


def memory(bed: Bed, variant: Variant, plan: Plan, say: Say) -> Memory:
    """Resident memory of a freshly started variant: at start, under load, with connections."""
    if variant.name in bed.running:
        bed.stop(variant)
    bed.start(variant)
    process = bed.running[variant.name]
    at_start = process.rss_mib()
    calls = plan.long_calls if variant.long_run else plan.short_calls
    say(f"memory of {variant.title}: {calls:,} calls")
    during = _under_load(bed, variant, calls)
    say(f"memory of {variant.title}: {plan.connections:,} connections")
    connected = _connected(bed, variant, plan.connections)
    time.sleep(plan.settle_s)
    return Memory(at_start, calls, during, plan.connections, connected, process.rss_mib())


def _under_load(bed: Bed, variant: Variant, calls: int) -> tuple[float, ...]:
    """Memory after each tenth of `calls`: small calls, every tenth an ImageStatus."""
    flags = ["-socket", bed.socket(variant), "-scenario", "mixed", "-inflight", "16"]
    flags += ["-calls", str(calls), "-progress", str(calls // LOOKS)]
    seen = []
    with subprocess.Popen([program("load"), *flags], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "done" in json.loads(line):
                seen.append(bed.running[variant.name].rss_mib())
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, "load")
    return tuple(seen)


def _connected(bed: Bed, variant: Variant, connections: int) -> float:
    """Memory while so many clients hold a connection, each after one call."""
    flags = ["-socket", bed.socket(variant), "-connections", str(connections)]
    with subprocess.Popen(
        [program("load"), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        opened = running.stdout.readline()
        seen = bed.running[variant.name].rss_mib()
    if running.returncode or not opened:
        raise subprocess.CalledProcessError(running.returncode, "load")
    return seen
