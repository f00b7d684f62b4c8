"""The Typer app: the options before a command, and every command of `COMMANDS`."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from cli.help_pages import HelpedCommand, HelpedGroup
from cli.options import FirstFileOption
from shimcore import __version__

COMMANDS = (
    "serve",
    "resolve",
    "check_registry",
    "status",
    "history",
    "doctor",
    "pull",
    "config",
    "install_service",
    "switch",
    "hand_over",
    "fleet",
    "demo",
    "completions",
    "help",
    "version",
)
"""The modules of `cli/` with a `register(app)`, in the order in which help lists them."""

app = typer.Typer(
    name="image-cri-shim",
    cls=HelpedGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    add_completion=False,  # see the command `completions`
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"image-cri-shim {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    file: FirstFileOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """An image proxy between kubelet and the container runtime.

    Without a command it serves, so that units written for `image-cri-shim -f FILE` work; alone
    at a terminal it shows this.
    """
    context.obj = file
    if context.invoked_subcommand is None:
        from cli.serve import serve  # noqa: PLC0415

        serve(context, file=file)


for _name in COMMANDS:
    importlib.import_module(f"cli.{_name}").register(app)

for _room in (app, *(group.typer_instance for group in app.registered_groups)):
    for _command in _room.registered_commands if _room else ():
        _command.cls = HelpedCommand
