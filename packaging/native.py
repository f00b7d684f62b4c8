"""Compiles the relay's core for the packages: `python native.py FOLDER`, in what they are made of.

Every frame of every call passes the core, which does no I/O; compiled it takes half the time. mypyc
translates the same sources, by their types, into C. What pip installs is not compiled, and behaves
the same: the relay's tests pass with both (tests/e2e/test_native.py).

FOLDER gets a library for each module, at the module's place, and the one library with the code.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Distribution

PROJECT = Path(__file__).parent.parent


def core() -> list[str]:
    """The files of the modules that the connection core consists of, relative to PROJECT."""
    import_module("shimcore.relay.connection")
    names = sorted(name for name in sys.modules if name.startswith("shimcore.relay."))
    return [name.replace(".", "/") + ".py" for name in names]


def compile_into(folder: Path) -> None:
    """Raises SystemExit where a module is not typed well enough, or the compiler fails."""
    c = str(folder / "c")
    # Not all that the core knows by its type is installed with types here, nor has every Python
    # SQLite, where mypy keeps what it has read.
    options = [
        "--config-file=",
        "--ignore-missing-imports",
        "--no-sqlite-cache",
        f"--cache-dir={c}",
    ]
    extensions = mypycify([*options, *core()], target_dir=c, debug_level="0", group_name="shimcore")
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), c
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.path.insert(0, str(PROJECT))
    compile_into(Path(sys.argv[1]).absolute())
