"""The compiled programs of the benchmarks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BUILT = FOLDER.parent / ".cache" / "bench"


class NoCompilerError(Exception):
    """There is no `go`."""


def build() -> None:
    """Compile them into .cache/bench. Raises NoCompilerError, CalledProcessError."""
    go = shutil.which("go")
    if go is None:
        raise NoCompilerError(
            "the benchmarks need Go (https://go.dev/dl) for their load, runtime and Go proxy: "
            "no `go` on the PATH"
        )
    BUILT.mkdir(parents=True, exist_ok=True)
    subprocess.run([go, "build", "-o", f"{BUILT}/", "./..."], cwd=FOLDER, check=True)


def program(name: str) -> str:
    """Path of a compiled program."""
    return str(BUILT / name)
