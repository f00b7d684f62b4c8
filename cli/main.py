"""Entry point of `image-cri-shim [-f FILE] COMMAND`. Without a command it serves.

Alone, by a person at a terminal, it shows its help.

Nothing heavy is imported here, so that an interrupt while the rest loads is quiet, too.
"""

from __future__ import annotations

import os
import sys

from cli.defaults import CONFIG_VARIABLE, DEFAULT_FILE


def run() -> None:
    """Run the command line and exit with its status."""
    _open_streams()
    # grpc's own remarks on connections that come and go are not for operators.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cli.exits import INTERRUPTED, status_of  # noqa: PLC0415

    try:
        status = status_of(_command)
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def _open_streams() -> None:
    """Where standard input, output or errors were closed they lead nowhere.

    Else the next file that is opened has their number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _command() -> object:
    # A name that the terminal's encoding does not have shall not end the run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    named, plain = _plain_serve(arguments)
    if not arguments and _at_terminal():
        arguments = ["--help"]
    elif plain:
        from cli.serving import run_serve  # noqa: PLC0415

        return run_serve(named or os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)
    from cli.app import app  # noqa: PLC0415

    return app(args=arguments, prog_name="image-cri-shim", standalone_mode=False)


def _at_terminal() -> bool:
    """Whether a person started this: a unit has no terminal for its input."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _plain_serve(arguments: list[str]) -> tuple[str | None, bool]:
    """The `-f FILE` of a command line that says `serve`, or nothing, and no more than that.

    This is what a node runs for months: it is read here, since the library that reads all
    other command lines would stay in memory, 17 MiB of it.
    """
    file: str | None = None
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument in {"-f", "--file"} and left:
            file = left.pop(0)
        elif argument.startswith("--file="):
            file = argument.removeprefix("--file=")
        elif argument == "serve" and "serve" not in left:
            continue
        else:
            return None, False
    return file, True
