"""`completions SHELL`: the completion script of a shell.

The scripts are in `cli/scripts/`, which packaging/completions.py makes from the commands.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

PROGRAM = "image-cri-shim"
_FOLDER = Path(__file__).with_name("scripts")


class Shell(StrEnum):
    """A shell that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completions(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell."""
    print(script(shell), end="")


def script(shell: Shell) -> str:
    """The completion script of `shell`, its last line ended."""
    return (_FOLDER / file_name(shell)).read_text(encoding="utf-8")


def file_name(shell: Shell) -> str:
    """The script's name in `cli/scripts/`."""
    return f"{PROGRAM}.{shell}"
