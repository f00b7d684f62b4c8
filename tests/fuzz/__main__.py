"""`python -m tests.fuzz --seconds N [TARGET…]`: every harness for its share of the time.

What is new goes to `.cache/fuzz/TARGET`, inputs that break something to
`.cache/fuzz/found/TARGET-…`. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

KEPT = Path(".cache/fuzz")
# The core is most of what a peer can reach: it gets as much time as four others.
SHARES = {"core": 4}
LONGEST_INPUT_BYTES = 4096
SLOWEST_INPUT_S = 10
MEMORY_MIB = 1024
_EXECUTIONS = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_RUNNING = re.compile(rb"^#(\d+)\s", re.MULTILINE)


@dataclass(slots=True)
class Fuzzing:
    """One harness at work."""

    target: str
    seconds: int
    process: subprocess.Popen[bytes]
    log: Path

    def executions(self) -> int:
        text = self.log.read_bytes()
        said = _EXECUTIONS.findall(text) or _RUNNING.findall(text) or [b"0"]
        return int(said[-1])


def start(target: str, seconds: int) -> Fuzzing:
    """Fuzz one harness for so long, in a process of its own."""
    kept, found = KEPT / target, KEPT / "found"
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    log = KEPT / f"{target}.log"
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT_BYTES}",
        f"-timeout={SLOWEST_INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={found}/{target}-",
        "-print_final_stats=1",
        "-len_control=0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.one", target, *options, kept, CORPUS / target],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    return Fuzzing(target, seconds, process, log)


def fuzz(targets: list[str], seconds: int, jobs: int) -> list[Fuzzing]:
    """All of them, `jobs` at a time, `seconds` seconds together."""
    shares = sum(SHARES.get(target, 1) for target in targets)
    waiting = list(targets)
    running: list[Fuzzing] = []
    done: list[Fuzzing] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            target = waiting.pop(0)
            each = max(1, seconds * jobs * SHARES.get(target, 1) // shares)
            running.append(start(target, min(each, seconds)))
        time.sleep(0.2)
        for one in [one for one in running if one.process.poll() is not None]:
            running.remove(one)
            done.append(one)
    return done


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser("tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="all of them")
    arguments = parser.parse_args()
    done = fuzz(arguments.targets or list(TARGETS), arguments.seconds, arguments.jobs)
    print(f"{'harness':12} {'seconds':>8} {'executions':>12} {'kept':>6}  result")
    for one in done:
        kept = sum(1 for _ in (KEPT / one.target).iterdir())
        result = "nothing found" if not one.process.returncode else f"FOUND, see {one.log}"
        print(f"{one.target:12} {one.seconds:8} {one.executions():12} {kept:6}  {result}")
    print(f"{sum(one.executions() for one in done)} executions")
    return 1 if any(one.process.returncode for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
