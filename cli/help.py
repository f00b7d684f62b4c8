"""`help`: the page of a command, as `--help` after it shows it."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help")(show_help)


def show_help(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", show_default=False)
    ] = None,
) -> None:
    """Show the help of a command, or this list of them."""
    root = context.find_root()
    root.command.main(
        args=[*(command or ()), "--help"],
        prog_name=root.info_name,
        standalone_mode=False,
    )
