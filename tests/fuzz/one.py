"""One harness under atheris; arguments are libFuzzer's: `python -m tests.fuzz.one NAME …`."""

from __future__ import annotations

import importlib
import sys

# Optional and untyped: installed by `make fuzz` alone.
atheris = importlib.import_module("atheris")

with atheris.instrument_imports(include=["shimcore", "tests.fuzz"]):
    targets = importlib.import_module("tests.fuzz.targets")


def main() -> None:
    """Fuzz until libFuzzer says that it is over."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
