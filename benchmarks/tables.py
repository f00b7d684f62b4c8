"""The results as tables."""

from __future__ import annotations

import os
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.bed import DIRECT, VARIANTS
from benchmarks.cases import Case
from benchmarks.results import Results, added_ratio, calls_ratio, targets


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    cores = os.cpu_count()
    console.print(
        f"{results.plan.rounds} rounds, interleaved; {cores} cores; load average "
        f"{results.load_before:.1f} before, {results.load_after:.1f} after"
    )
    for case in results.plan.cases:
        console.print(_latency(results, case))
    console.print(_process(results))
    console.print(_targets(results))


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _latency(results: Results, case: Case) -> Table:
    title = case.title[0].upper() + case.title[1:]
    table = Table(title=title, title_justify="left")
    rate = "messages/s" if case.messages > 1 else "calls/s"
    table.add_column("in flight", justify="right")
    table.add_column("through")
    for heading in (
        "p50 µs",
        "p99 µs",
        "added p50 µs",
        "lowest, highest",
        "÷ Go's",
        "added p99 µs",
        rate,
        "÷ direct's",
        "÷ Go's",
        "CPU µs/call",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for in_flight in case.in_flight:
        for variant in case.variants():
            one = results.get(case.scenario, in_flight, variant)
            if one is None:
                continue
            base = variant is DIRECT
            spread = f"{one.added_p50_lowest_us:,.0f}, {one.added_p50_highest_us:,.0f}"
            table.add_row(
                str(in_flight),
                variant.title,
                _number(one.p50_us),
                _number(one.p99_us),
                "" if base else _number(one.added_p50_us),
                "" if base else spread,
                "" if base else _number(added_ratio(results, case.scenario, in_flight, variant), 2),
                "" if base else _number(one.added_p99_us),
                _number(one.calls_per_s),
                _number(one.calls_of_direct, 2),
                "" if base else _number(calls_ratio(results, case.scenario, in_flight, variant), 2),
                "" if base else _number(one.cpu_us, 1),
            )
        table.add_section()
    return table


def _process(results: Results) -> Table:
    table = Table(title="Memory (resident MiB) and start", title_justify="left")
    table.add_column("process")
    for heading in (
        "ready, ms",
        "at start",
        "calls",
        "after a tenth",
        "after all",
        "connections",
        "open",
        "closed",
    ):
        table.add_column(heading, justify="right")
    for variant in VARIANTS:
        memory = results.memory.get(variant.name)
        if memory is None:
            continue
        table.add_row(
            variant.title,
            _number(median(results.ready_s[variant.name]) * 1000),
            _number(memory.at_start, 1),
            f"{memory.calls:,}",
            _number(memory.during[0], 1),
            _number(memory.during[-1], 1),
            f"{memory.connections:,}",
            _number(memory.connected, 1),
            _number(memory.after, 1),
        )
    return table


def _targets(results: Results) -> Table:
    table = Table(title="Targets of the shim", title_justify="left")
    table.add_column("")
    table.add_column("wanted")
    table.add_column("seen", justify="right")
    table.add_column("")
    for one in targets(results):
        table.add_row(one.title, one.wanted, f"{one.seen:.2f}", "met" if one.met else "missed")
    return table
