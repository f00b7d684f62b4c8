"""Breaks the relay core on purpose, one rule at a time: each break has to fail a test.

Run it as `python -m tests.mutation [NAME ...]`. A mutation replaces one piece of text in a
copy of shimcore/relay; the relay's unit and property tests then run against the copy. It
is not part of the default test run: each of its runs of those tests takes seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mutation import answers, calls, frames, limits, windows
from tests.mutation.entry import Mutation

ROOT = Path(__file__).resolve().parents[2]
# In the order in which a break is likely to show; the first failure ends a run.
TESTS = ("tests/unit/relay", "tests/property/test_relay_conversations.py")
SEEDS = "30"
# A mutated core may wait for what never comes.
LIMIT_S = 180
MUTATIONS = (
    *calls.MUTATIONS,
    *frames.MUTATIONS,
    *windows.MUTATIONS,
    *answers.MUTATIONS,
    *limits.MUTATIONS,
)


def main(names: list[str]) -> int:
    """Run the mutations whose names contain one of `names` (all without); 1 if one lives."""
    chosen = [m for m in MUTATIONS if not names or any(name in m.name for name in names)]
    with _copy() as unchanged:
        if _fails(unchanged):
            print("the tests fail without any mutation", file=sys.stderr)
            return 2
    alive = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for mutation, caught in zip(chosen, pool.map(_caught, chosen), strict=True):
            alive += not caught
            print("caught" if caught else "ALIVE ", mutation.name, flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutations are caught")
    return 1 if alive else 0


def _caught(mutation: Mutation) -> bool:
    with _copy() as folder:
        path = folder / "shimcore" / "relay" / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(f"{mutation.name}: its text is not once in {mutation.file}")
        path.write_text(text.replace(mutation.old, mutation.new))
        return _fails(folder)


@contextmanager
def _copy() -> Iterator[Path]:
    """A folder with the sources and tests that are needed, to be changed at will."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in ("shimcore", "tests/unit/relay", "tests/property", "tests/support"):
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        for part in (
            "pyproject.toml",
            "tests/__init__.py",
            "tests/conftest.py",
            "tests/unit/__init__.py",
        ):
            shutil.copy(ROOT / part, folder / part)
        yield folder


def _fails(folder: Path) -> bool:
    """Whether a test fails in this folder. A run that takes too long counts as a failure."""
    environment = {**os.environ, "RELAY_SEEDS": SEEDS, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest did not run:\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
