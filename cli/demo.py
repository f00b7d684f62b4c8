"""`demo`: the main job on a machine with nothing on it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from cli import exits, render
from cli.render import GOOD, Cell, Column, Columns, Facts

if TYPE_CHECKING:
    from shimcore.demo.show import Pull

# Where the package `cli` is, installed or not.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_COLUMNS: Columns[Pull] = {
    Column("ASKED"): lambda pull: Cell(pull.asked),
    Column("PULLED AS"): lambda pull: Cell(pull.pulled_as, GOOD),
    Column("REGISTRY"): lambda pull: Cell(pull.registry),
    Column("TIME", right=True): lambda pull: Cell(render.duration(pull.elapsed_s * 1000)),
}


def demo() -> None:
    """Show the main job on a machine with nothing on it.

    Starts a small registry that wants a password and a stand-in for the container runtime,
    the real shim between them, and pulls nginx:latest as kubelet does. Needs no root, no
    network and no container runtime, and leaves nothing behind.
    """
    import asyncio  # noqa: PLC0415 - a fast --help

    from cli.waiting import answer_of  # noqa: PLC0415

    with exits.reported():
        try:
            pulls = answer_of(_play())
        except asyncio.CancelledError:
            raise typer.Exit(exits.TERMINATED) from None
    print()
    render.print_blocks([render.table_of(_COLUMNS, pulls)])


async def _play() -> tuple[Pull, ...]:
    import asyncio  # noqa: PLC0415 - a fast --help

    from shimcore.demo.show import show  # noqa: PLC0415

    task = asyncio.current_task()

    def end() -> None:
        # Once: a second signal does not keep the shim from being ended.
        if task is not None and not task.cancelling():
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, end)
    paths = [_HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
    return await show(_own_command(), {"PYTHONPATH": os.pathsep.join(paths)}, _say)


def _own_command() -> list[str]:
    """What starts this same command line once more."""
    if getattr(sys, "frozen", False):  # the bundle of `make dist`, which is no Python
        return [sys.executable]
    # -P: a folder `cli` where the demo happens to be started is not this one.
    return [sys.executable, "-P", "-m", "cli"]


def _say(did: str, saw: str) -> None:
    render.print_blocks([Facts(did, (("", Cell(saw, GOOD)),))])
    sys.stdout.flush()
