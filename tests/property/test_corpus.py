"""The fuzzer's inputs, replayed: seeds, and whatever once broke something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, inputs

INPUTS = [(target, path) for target in TARGETS for path in inputs(target)]


@pytest.mark.parametrize(
    ("target", "path"), INPUTS, ids=[f"{target}-{path.name}" for target, path in INPUTS]
)
def test_an_input_breaks_nothing(target: str, path: Path) -> None:
    """The harness takes it, and what is cut off or added at its end."""
    data = path.read_bytes()
    harness = TARGETS[target]
    harness(data)
    for size in range(0, len(data), max(1, len(data) // 16)):
        harness(data[:size])
    harness(data + data)
