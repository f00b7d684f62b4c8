"""From samples to figures: medians over the rounds, and ratios."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.bed import DELAY_MS, DIRECT, GO, SHIM, Variant
from benchmarks.cases import Plan
from benchmarks.measure import Memory, Sample, Samples


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds of one case through one variant.

    Added latency is taken round by round, against `direct` in the same round.
    """

    case: str
    in_flight: int
    variant: str
    p50_us: float
    p99_us: float
    added_p50_us: float
    added_p99_us: float
    added_p50_lowest_us: float
    added_p50_highest_us: float
    calls_per_s: float
    calls_of_direct: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that was promised, and what was seen."""

    title: str
    wanted: str
    seen: float
    met: bool


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run has found."""

    plan: Plan
    samples: Samples
    figures: dict[tuple[str, int, str], Figures]
    ready_s: dict[str, list[float]]
    memory: dict[str, Memory]
    load_before: float
    load_after: float
    """Load averages of the last minute: beyond what the run itself adds, others' work."""

    def get(self, case: str, in_flight: int, variant: Variant) -> Figures | None:
        """Figures of one cell, None where it was not measured."""
        return self.figures.get((case, in_flight, variant.name))

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "machine": {
                "cores": os.cpu_count(),
                "system": f"{platform.system()} {platform.release()} {platform.machine()}",
                "python": platform.python_version(),
                "load_before": self.load_before,
                "load_after": self.load_after,
            },
            "plan": asdict(self.plan),
            "figures": [
                asdict(one) | {"rounds": [asdict(sample) for sample in self.samples[key]]}
                for key, one in self.figures.items()
            ],
            "ready_s": self.ready_s,
            "memory_mib": {name: asdict(one) for name, one in self.memory.items()},
            "targets": [asdict(one) for one in targets(self)],
        }


def figures(samples: Samples) -> dict[tuple[str, int, str], Figures]:
    """Medians of all cells."""
    return {
        key: _figures(*key, mine, samples[key[0], key[1], DIRECT.name])
        for key, mine in samples.items()
    }


def _figures(
    case: str, in_flight: int, variant: str, mine: list[Sample], direct: list[Sample]
) -> Figures:
    pairs = list(zip(mine, direct, strict=True))
    added = [own.p50_us - base.p50_us for own, base in pairs]
    return Figures(
        case=case,
        in_flight=in_flight,
        variant=variant,
        p50_us=median(own.p50_us for own in mine),
        p99_us=median(own.p99_us for own in mine),
        added_p50_us=median(added),
        added_p99_us=median(own.p99_us - base.p99_us for own, base in pairs),
        added_p50_lowest_us=min(added),
        added_p50_highest_us=max(added),
        calls_per_s=median(own.calls_per_s for own in mine),
        calls_of_direct=median(own.calls_per_s / base.calls_per_s for own, base in pairs),
        cpu_us=median(own.cpu_us for own in mine),
    )


def added_ratio(results: Results, case: str, in_flight: int, variant: Variant) -> float | None:
    """Added p50 of `variant` as a share of the Go proxy's."""
    mine, go = results.get(case, in_flight, variant), results.get(case, in_flight, GO)
    if mine is None or go is None or go.added_p50_us <= 0:
        return None
    return mine.added_p50_us / go.added_p50_us


def calls_ratio(results: Results, case: str, in_flight: int, variant: Variant) -> float | None:
    """Calls a second of `variant` as a multiple of the Go proxy's."""
    mine, go = results.get(case, in_flight, variant), results.get(case, in_flight, GO)
    if mine is None or go is None:
        return None
    return mine.calls_per_s / go.calls_per_s


def targets(results: Results) -> list[Target]:
    """Each target that this run has figures for."""
    found = []

    def at_most(title: str, limit: float, seen: float | None, unit: str = "") -> None:
        if seen is not None:
            found.append(Target(title, f"at most {limit:g}{unit}", seen, seen <= limit))

    for case, title, limit in (
        ("version", "small call", 0.6),
        ("list-200", "list of 200", 0.5),
        ("status", "ImageStatus", 0.6),
    ):
        ratio = added_ratio(results, case, 1, SHIM)
        at_most(f"{title}: added p50 ÷ the Go proxy's", limit, ratio)
    rate = calls_ratio(results, "version", 16, SHIM)
    if rate is not None:
        title = "small call, 16 in flight: calls a second ÷ the Go proxy's"
        found.append(Target(title, "at least 1.5", rate, rate >= 1.5))
    for case, which in (("pull-2nd", "second"), ("pull-3rd", "third")):
        pull = results.get(case, 1, SHIM)
        trips = None if pull is None else pull.added_p50_us / 1000 / DELAY_MS
        at_most(f"cold PullImage from the {which} registry: round trips", 1.3, trips)
    memory = results.memory.get(SHIM.name)
    if memory is not None:
        at_most(f"memory after {memory.calls:,} calls", 45, memory.during[-1], " MiB")
        growth = memory.during[-1] - memory.during[0]
        at_most("its growth since the first tenth", 1, growth, " MiB")
    at_most("ready", 400, median(results.ready_s[SHIM.name]) * 1000, " ms")
    return found
