"""Exit statuses, and how each error becomes one line on standard error and a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shimcore.errors import ConfigError, ShimError
from shimcore.lines import journal_reads, printable

OK = 0
FAILED = 1
# As getopt-like programs, and click, have it.
USAGE = 2
NONE_HAS_IT = 3
NOT_RUNNING = 3
# sysexits.h EX_CONFIG
BAD_CONFIG = 78
# 128 + the signal, as a shell says it.
INTERRUPTED, TERMINATED = 130, 143


@contextmanager
def reported(*, bad_config: int = BAD_CONFIG) -> Iterator[None]:
    """Turn the project's errors into lines on standard error and an exit status.

    `bad_config` is the status for a configuration that cannot be used: 78 for `serve`, where
    systemd can be told by it not to try again; a question that could not be asked is 1.
    """
    import typer  # noqa: PLC0415 - main handles an interrupt while it loads

    try:
        yield
    except ShimError as error:
        raise typer.Exit(report(error, bad_config=bad_config)) from error


def report(error: ShimError, *, bad_config: int = BAD_CONFIG, points: bool = True) -> int:
    """The exit status of an error, which is said; of a configuration each fault.

    `points`: where in the file a fault is, is shown below it.
    """
    if not isinstance(error, ConfigError):
        say(str(error))
        return FAILED
    for fault in error.faults:
        say(f"{error.source}: {fault}{_remedy(error)}")
        for pointing in fault.place.pointing() if fault.place and points else ():
            print(pointing, file=sys.stderr)
    return bad_config


def status_of(command: Callable[[], object]) -> int:
    """The exit status of the whole run; whatever it raised has been said in one line."""
    try:
        status = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last stop: every error is said, none is shown raw
        return _failure(_first(error))
    return status if isinstance(status, int) else OK


def say(text: str) -> None:
    """One line on standard error, whatever line breaks came with it.

    On a terminal, a line that is too long for it is broken between words.
    """
    line = "image-cri-shim: " + printable(" ".join(text.split()))
    if sys.stderr.isatty():
        line = _broken(line)
    elif journal_reads():
        line = f"<3>{line}"  # sd-daemon(3): an error
    try:
        print(line, file=sys.stderr)
    except OSError:
        return  # nobody reads it


def _broken(line: str) -> str:
    import shutil  # noqa: PLC0415 - for a person who reads it, and not for `serve` in a unit
    import textwrap  # noqa: PLC0415

    width = shutil.get_terminal_size().columns
    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _remedy(error: ConfigError) -> str:
    from shimcore.config.files import SilentFileError  # noqa: PLC0415 - a fast --help

    if isinstance(error, SilentFileError) or os.path.lexists(error.source):
        return ""
    return "; name the configuration with -f FILE, or write one with install-service"


def _first(error: Exception) -> Exception:
    """The error itself; of a task group's, the first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _failure(error: Exception) -> int:
    import typer  # noqa: PLC0415 - as above

    if isinstance(error, BrokenPipeError):  # nobody reads it
        _drop_output()
        return FAILED
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    if isinstance(error, typer.BadParameter.__mro__[1]):  # click's UsageError, wherever it lives
        say(_usage_fault(error))
        return USAGE
    if isinstance(error, OSError):
        say(_os_fault(error))
        if error.filename is None:
            _drop_output()
        return FAILED
    say(f"unexpected error, please report it: {type(error).__name__}: {error} ({_place(error)})")
    return FAILED


def _usage_fault(error: Exception) -> str:
    """What is wrong with the command line, and where help is."""
    message = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    message = message.replace("Value error, ", "").replace(". Did you", ", did you")
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "image-cri-shim")
    see = "? See" if message.endswith("?") else "; see"
    return f"{message[:1].lower()}{message[1:].rstrip('?')}{see} {path} --help"


def _os_fault(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else f"cannot write the output: {what}"


def _place(error: Exception) -> str:
    """File and line where it was raised."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return "nowhere"
    return f"{os.path.basename(step.tb_frame.f_code.co_filename)}:{step.tb_lineno}"


def _drop_output() -> None:
    """Let what is still to be written go nowhere, so that the flush at exit is silent."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
