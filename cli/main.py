"""The command line: `image-cri-shim [-f FILE] COMMAND`. Without a command it serves."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from cli.options import FileOption
from shimcore import __version__

app = typer.Typer(
    name="image-cri-shim",
    help="An image proxy between kubelet and the container runtime.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_COMMANDS = ("serve",)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"image-cri-shim {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    file: FileOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """An image proxy between kubelet and the container runtime.

    Without a command it serves, so that units written for `image-cri-shim -f FILE` work.
    """
    context.obj = file
    if context.invoked_subcommand is None:
        from cli.serve import serve  # noqa: PLC0415

        serve(context, file=file)


for _name in _COMMANDS:
    importlib.import_module(f"cli.{_name.replace('-', '_')}").register(app)


def run() -> None:
    """Entry point of the console script."""
    app()
