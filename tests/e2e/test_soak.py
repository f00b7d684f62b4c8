"""Half a minute of the soak (`make soak` takes ten): real processes, faults at random."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support.report import NOTES

pytestmark = pytest.mark.e2e

SECONDS = 25


@pytest.mark.parametrize("runtime", ["stand-in", "containerd"])
def test_nothing_is_lost_while_things_fail(runtime: str, machine: None) -> None:
    """Every answer is its call's own and comes once; each fault is recovered from."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--runtime", runtime],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 180,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    NOTES.extend(re.findall(r"^(?:\d+ faults|calls answered).*$", ran.stdout, re.MULTILINE))
