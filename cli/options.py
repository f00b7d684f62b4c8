"""Options that several commands share, and the configuration that they name."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits
from cli.defaults import CONFIG_VARIABLE, DEFAULT_FILE

if TYPE_CHECKING:
    from shimcore.config import Config


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_FILE_HELP = f"Configuration file (default {DEFAULT_FILE})."

FirstFileOption = Annotated[
    str | None,
    typer.Option("-f", "--file", envvar=CONFIG_VARIABLE, metavar="FILE", help=_FILE_HELP),
]
"""Before the command; the environment is read here alone, so that it never beats a `-f`."""

FileOption = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="FILE", help=_FILE_HELP),
]
"""After the command."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print the result.")]


def named_file(context: typer.Context, file: str | None) -> str | None:
    """The file named at the command, else before it or in the environment, else None."""
    above: str | None = context.obj
    return file or above


def chosen_file(context: typer.Context, file: str | None) -> str:
    """The file named at the command, else before it or in the environment, else the default.

    Its path is absolute: it means the same to a shim that began in another directory.
    """
    return os.path.abspath(named_file(context, file) or DEFAULT_FILE)


def started(path: str) -> Config:
    """What a shim that started now would have: the file, the node's copy of the cluster's part
    over it. Raises ConfigError."""
    from shimcore.cluster.starting import Start, in_time, with_kept  # noqa: PLC0415 - a fast --help
    from shimcore.config import load  # noqa: PLC0415

    own = in_time(path, lambda: load(path))
    start = with_kept(path, Start(own, own))
    for fault in start.faults:
        exits.say(fault)
    return start.config
