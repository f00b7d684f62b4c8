"""The results as a picture, where matplotlib is installed (dependency group `bench`)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks.bed import DIRECT, VARIANTS
from benchmarks.results import Results


def plot(results: Results, path: Path) -> bool:
    """Write a PNG of added latency and calls a second; False without matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        return False
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    cells = [(case, at) for case in results.plan.cases for at in case.in_flight]
    figure, (latency, rate) = pyplot.subplots(2, 1, figsize=(14, 10), layout="constrained")
    variants = [variant for variant in VARIANTS if variant is not DIRECT]
    width = 0.8 / len(variants)
    for place, variant in enumerate(variants):
        found = [results.get(case.scenario, at, variant) for case, at in cells]
        spots = [number + place * width for number in range(len(cells))]
        added = [0 if one is None else one.added_p50_us for one in found]
        share = [0 if one is None else one.calls_of_direct for one in found]
        latency.bar(spots, added, width, label=variant.title)
        rate.bar(spots, share, width, label=variant.title)
    names = [f"{case.scenario}\n{at} in flight" for case, at in cells]
    for axes in (latency, rate):
        axes.set_xticks([number + 0.4 - width / 2 for number in range(len(cells))], names)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="y", alpha=0.3)
        axes.legend()
    latency.set_yscale("symlog", linthresh=10)
    latency.set_title("Added p50 latency (µs, logarithmic; less is better)")
    rate.set_title("Calls a second as a share of direct (more is better)")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
