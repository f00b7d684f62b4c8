"""`serve`: the proxy itself."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import exits
from cli.options import FileOption, chosen_file


def serve(
    context: typer.Context,
    file: FileOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, warn of what cannot work on this machine, print the "
            "configuration in force with secrets masked, exit.",
        ),
    ] = False,
) -> None:
    """Stand between kubelet and the runtime.

    Until SIGTERM or SIGINT, on which calls that are running may end first. SIGHUP reads the
    configuration anew. Exit status: 78 for a configuration that cannot be used.
    """
    path = chosen_file(context, file)
    if dry_run:
        _show(path)
        return
    from cli.serving import run_serve  # noqa: PLC0415 - a fast --help

    raise typer.Exit(run_serve(path))


def _show(path: str) -> None:
    """Check the configuration, warn of what cannot work here, and print what would be in force."""
    import yaml  # noqa: PLC0415 - as above

    from cli.waiting import answer_of  # noqa: PLC0415 - as above
    from shimcore.cluster.checking import cluster_doubts  # noqa: PLC0415 - as above
    from shimcore.cluster.starting import in_time  # noqa: PLC0415
    from shimcore.config import load, masked  # noqa: PLC0415
    from shimcore.config.doubts import doubts  # noqa: PLC0415
    from shimcore.runtime.detection import socket_doubt  # noqa: PLC0415

    with exits.reported():
        config = in_time(path, lambda: load(path))
        runtime = answer_of(socket_doubt(config.runtime_socket))
        doubted = (*doubts(config), *cluster_doubts(config), *([f"cri: {runtime}"] * bool(runtime)))
        for notice in config.notices:
            exits.say(f"{config.source}: {notice}")
        for doubt in doubted:
            exits.say(f"{config.source}: warning: {doubt}")
        yaml.safe_dump(masked(config), sys.stdout, sort_keys=False, allow_unicode=True)
