"""Exit statuses, and how each error becomes one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from shimcore.errors import ConfigError, ShimError

OK = 0
FAILED = 1
NONE_HAS_IT = 3
NOT_RUNNING = 3
# sysexits.h EX_CONFIG
BAD_CONFIG = 78


@contextmanager
def reported() -> Iterator[None]:
    """Turn the project's errors into lines on standard error and an exit status."""
    try:
        yield
    except ConfigError as error:
        for fault in error.faults:
            say(f"{error.source}: {fault}")
        raise typer.Exit(BAD_CONFIG) from error
    except ShimError as error:
        say(str(error))
        raise typer.Exit(FAILED) from error
    except BrokenPipeError as error:
        sys.stderr.close()
        raise typer.Exit(FAILED) from error


def say(text: str) -> None:
    """One line on standard error, whatever line breaks came with it."""
    print("image-cri-shim: " + " ".join(text.split()), file=sys.stderr)
