"""`hand-over`: an upgrade without a gap."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cli import exits
from cli.options import FileOption, chosen_file
from shimcore.errors import ShimError


def hand_over(
    context: typer.Context,
    file: FileOption = None,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="FILE", help="What is to serve, if not this command."),
    ] = None,
    or_restart: Annotated[
        bool,
        typer.Option("--or-restart", help="Restart a service that cannot hand over."),
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare",
            help="Load what the running service still needs, before its files are replaced.",
        ),
    ] = False,
) -> None:
    """Have the running service go on as this version, without a gap.

    A new process starts beside the old one, and takes its place once it is ready. Calls that are
    under way end in the old one, within 15 minutes. If the new one does not get ready, nothing
    has happened. Exit status: 0 done; 1 not.

    A package runs this by itself. Where you replace the files of a virtual environment, run
    hand-over --prepare before, with the old version, and hand-over after it.
    """
    with exits.reported(bad_config=exits.FAILED):
        from shimcore.client import handover  # noqa: PLC0415 - a fast --help
        from shimcore.client.admin import running_endpoint  # noqa: PLC0415
        from shimcore.systemd.command import command_path  # noqa: PLC0415
        from shimcore.systemd.root import Root  # noqa: PLC0415
        from shimcore.systemd.systemctl import this_machine  # noqa: PLC0415

        path = chosen_file(context, file)
        if prepare:
            print(handover.prepare(running_endpoint(path)))
            return
        named = os.path.abspath(command) if command else command_path(Root())
        service = handover.RunningService(running_endpoint(path), named)
        if or_restart:
            print(service.hand_over_or_restart(this_machine()))
            return
        try:
            print(service.hand_over())
        except handover.RestartNeededError as error:
            raise ShimError(f"{error}; only a restart is left (--or-restart)") from error
