"""The compiled programs of the benchmarks, and the shim as the packages have it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parent
BUILT = PROJECT / ".cache" / "bench"
COMPILED = BUILT / "compiled"


class NoCompilerError(Exception):
    """There is no `go`."""


def build() -> None:
    """Compile the programs into .cache/bench. Raises NoCompilerError, CalledProcessError."""
    go = shutil.which("go")
    if go is None:
        raise NoCompilerError(
            "the benchmarks need Go (https://go.dev/dl) for their load, runtime and Go proxy: "
            "no `go` on the PATH"
        )
    BUILT.mkdir(parents=True, exist_ok=True)
    subprocess.run([go, "build", "-o", f"{BUILT}/", "./..."], cwd=FOLDER, check=True)


def compile_shim() -> None:
    """Its sources and libraries, in COMPILED. Raises CalledProcessError (no gcc, say)."""
    # Anew: the library of a module that is compiled no more would come before its source.
    shutil.rmtree(COMPILED, ignore_errors=True)
    for package in ("cli", "shimcore"):
        shutil.copytree(PROJECT / package, COMPILED / package)
    native = PROJECT / "packaging/native.py"
    subprocess.run([sys.executable, "-P", native, COMPILED], check=True)


def program(name: str) -> str:
    """Path of a compiled program."""
    return str(BUILT / name)
