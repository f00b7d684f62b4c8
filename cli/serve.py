"""`serve`: the proxy itself."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import exits
from cli.options import FileOption, chosen_file


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    context: typer.Context,
    file: FileOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, print the configuration in force with secrets masked, exit.",
        ),
    ] = False,
) -> None:
    """Stand between kubelet and the runtime.

    Until SIGTERM or SIGINT, on which calls that are running may end first. SIGHUP reads the
    configuration anew. Exit status: 78 for a configuration that cannot be used.
    """
    from shimcore.config import load, masked  # noqa: PLC0415 - a fast --help

    path = chosen_file(context, file)
    with exits.reported():
        config = load(path)
        if dry_run:
            import yaml  # noqa: PLC0415

            for notice in config.notices:
                exits.say(f"{config.source}: {notice}")
            yaml.safe_dump(masked(config), sys.stdout, sort_keys=False, allow_unicode=True)
            return
        from shimcore.daemon.serve import serve as run  # noqa: PLC0415

        run(path, config)
