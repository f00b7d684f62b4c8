"""`completions SHELL`: the completion script of a shell, made from the commands themselves.

`python -m cli.completions FOLDER` writes all of them. The scripts are static: completing a
word starts no Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.command_specs import PROGRAM, CommandSpec, commands


class Shell(StrEnum):
    """A shell that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


FILE_NAMES = {
    Shell.BASH: f"{PROGRAM}.bash",
    Shell.ZSH: f"{PROGRAM}.zsh",
    Shell.FISH: f"{PROGRAM}.fish",
}
"""The files in `completions/`."""


def completions(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell."""
    print(script(shell), end="")


def script(shell: Shell) -> str:
    """The completion script of `shell`, its last line ended."""
    from cli import completion_scripts as scripts  # noqa: PLC0415 - a fast --help

    write: dict[Shell, Callable[[Sequence[CommandSpec]], str]] = {
        Shell.BASH: scripts.bash,
        Shell.ZSH: scripts.zsh,
        Shell.FISH: scripts.fish,
    }
    from cli.app import app, main  # noqa: PLC0415 - it has every command, this one too

    return write[shell](commands(app, main))


def write_all(folder: Path) -> None:
    """Write the script of every shell into `folder`."""
    for shell, name in FILE_NAMES.items():
        (folder / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    # The module that the app imports, not this second one of the same file.
    from cli.completions import write_all as write

    write(Path(sys.argv[1]))
