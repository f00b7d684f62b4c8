"""The Typer app: the options before a command, and every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cli import config, fleet, switch
from cli.check_registry import check_registry
from cli.completions import completions
from cli.demo import demo
from cli.doctor import doctor
from cli.hand_over import hand_over
from cli.help_pages import HelpedCommand, HelpedGroup, show_help
from cli.history import history
from cli.install_service import install_service, uninstall_service
from cli.options import FirstFileOption
from cli.pull import pull
from cli.resolve import resolve
from cli.serve import serve
from cli.status import status
from cli.version import version
from shimcore import __version__

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
        serve(context, file=file)


COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve,
    "resolve": resolve,
    "check-registry": check_registry,
    "status": status,
    "history": history,
    "doctor": doctor,
    "pull": pull,
    "install-service": install_service,
    "uninstall-service": uninstall_service,
    "hand-over": hand_over,
    "demo": demo,
    "completions": completions,
    "help": show_help,
    "version": version,
}
"""In the order in which help lists them."""
GROUPS = {"config": config.group, "switch": switch.group, "fleet": fleet.group}
"""Commands with commands below them; they come last."""

for _name, _command in COMMANDS.items():
    app.command(_name, cls=HelpedCommand)(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)
