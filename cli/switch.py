"""`switch`: another version on this node, or none, undone unless it is well."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from cli import exits, render
from cli.help_pages import command_group
from cli.install_service import completion_files
from cli.options import Output, OutputOption
from cli.render import BAD, GOOD, WARN, Cell, Facts
from shimcore.errors import ShimError

_STYLES = {"healthy": GOOD, "removed": GOOD, "running": WARN}


def run() -> None:
    """Do what the request on this node asks; put everything back unless it is well in time.

    The request is /var/lib/image-cri-shim/switch/request.json, written by the fleet's pod. It is
    to be run by systemd, outside of every pod. Exit status: 0 done; 1 undone or refused.
    """
    with exits.reported(bad_config=exits.FAILED):
        from shimcore.switch import run as running  # noqa: PLC0415 - a fast --help
        from shimcore.switch.exchange import Phase  # noqa: PLC0415

        if os.geteuid() != 0:
            raise ShimError("only root can do this")
        state = running.switch(completion_files(), _say)
        if state.phase in {Phase.HEALTHY, Phase.REMOVED}:
            _say(f"{state.phase}: {state.detail}")
            # Not by this program, which is gone after a removal.
            os.execv("/bin/sh", running.clearing())  # noqa: S606 - no shell is wanted but this
        exits.say(f"{state.phase} at step {state.step}: {state.detail}")
        raise typer.Exit(exits.FAILED)


def status(
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="Look at the node whose root is DIR.")
    ] = "/",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how the last switch of this node ended, or the step that it is at.

    Exit status: 0; 1 where there was none.
    """
    with exits.reported(bad_config=exits.FAILED):
        from shimcore.switch.exchange import look  # noqa: PLC0415 - as above
        from shimcore.systemd.root import Root  # noqa: PLC0415

        found = look(Root(root))
        if found is None:
            raise ShimError("this node was never switched by a fleet")
        render.show(output, found, lambda: [_facts(found)])


def _facts(found: dict[str, Any]) -> Facts:
    phase = str(found.get("phase"))
    shown = (key for key in ("version", "step", "detail", "at", "revision") if found.get(key))
    pairs = ((key, Cell(render.printable(str(found[key])))) for key in shown)
    return Facts("switch", (("phase", Cell(phase, _STYLES.get(phase, BAD))), *pairs))


def _say(line: str) -> None:
    print(line, flush=True)


group = command_group(
    "Switch this node to another version, as the fleet's pod asks for it.", run, status
)
