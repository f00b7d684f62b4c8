"""`python -m benchmarks.run [--quick] [--json FILE] [--png FILE]`: measure, show, keep.

Everything runs as processes of its own in a temporary folder: a fast stand-in runtime, three
registries, and the ways between client and runtime. The load comes from a compiled client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks import measure, plot, programs, results, tables
from benchmarks.bed import DIRECT, VARIANTS, Bed, allow_many_files
from benchmarks.cases import FULL, QUICK, Plan

RESULTS = programs.FOLDER / "results"


def main() -> int:
    """Run and return the exit status: 1 where it cannot be measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes, fewer cases")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    parser.add_argument("--png", type=Path, default=RESULTS / "bench.png", metavar="FILE")
    asked = parser.parse_args()
    say = _Progress()
    try:
        say("compiling the programs and the relay's core")
        programs.build()
        programs.compile_shim()
        found = run(QUICK if asked.quick else FULL, say)
    except (programs.NoCompilerError, subprocess.CalledProcessError, RuntimeError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    say.done()
    plain = not sys.stdout.isatty()
    tables.show(found, Console(width=170 if plain else None))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(found.as_json(), indent=1) + "\n")
    print(f"written: {asked.json}")
    asked.png.parent.mkdir(parents=True, exist_ok=True)
    if plot.plot(found, asked.png):
        print(f"written: {asked.png}")
    else:
        print("no picture: matplotlib is not installed (dependency group `bench`)")
    return 0


def run(plan: Plan, say: measure.Say) -> results.Results:
    """Measure everything of `plan`."""
    allow_many_files()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="shim-bench-") as folder:
        bed = Bed(Path(folder))
        try:
            bed.start_registries()
            ready = measure.starts(bed, plan, say)
            samples = measure.rounds(bed, plan, say)
            memory = {
                variant.name: measure.memory(bed, variant, plan, say)
                for variant in VARIANTS
                if variant is not DIRECT
            }
        finally:
            bed.close()
    return results.Results(
        plan, samples, results.figures(samples), ready, memory, load_before, os.getloadavg()[0]
    )


class _Progress:
    """Says on standard error what is being done, on one line of a terminal."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        start, end = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        elapsed_s = time.monotonic() - self._begun
        print(f"{start}{elapsed_s:4.0f} s  {text}", end=end, file=sys.stderr, flush=True)

    def done(self) -> None:
        """Clear the line."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
