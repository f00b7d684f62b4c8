"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

DEFAULT_FILE = "/etc/image-cri-shim.yaml"


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FileOption = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--file",
        envvar="IMAGE_CRI_SHIM_CONFIG",
        metavar="FILE",
        help=f"Configuration file (default {DEFAULT_FILE}).",
    ),
]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print the result.")]


def chosen_file(context: typer.Context, file: str | None) -> str:
    """The file named at the command, else before it, else the default."""
    above: str | None = context.obj
    return file or above or DEFAULT_FILE
