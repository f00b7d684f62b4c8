"""`doctor`: everything between a pod and its image, each with its mend."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file
from cli.render import BAD, DIM, GOOD, WARN, Cell, Column, Columns

if TYPE_CHECKING:
    from shimcore.doctor import Finding

COMMANDS = (
    "image-cri-shim ",
    "systemctl ",
    "journalctl ",
    "skopeo ",
    "kubectl ",
    "printf ",
    "crictl ",
    "chmod ",
    "chown ",
    "date ",
    "echo ",
    "export ",
    "kill ",
    "mkdir ",
)
"""A mend that begins with one of them is typed as it stands."""

_STYLES = {"PASS": GOOD, "WARN": WARN, "FAIL": BAD}

_COLUMNS: Columns[Finding] = {
    Column("RESULT"): lambda finding: Cell(finding.result.value, _style(finding)),
    Column("CHECK"): lambda finding: Cell(finding.check),
    Column("DETAIL", below=True): lambda finding: Cell(
        finding.detail, "" if finding.result.value == "PASS" else _style(finding)
    ),
    Column("MEND", below=True): lambda finding: _mend(finding.mend),
}


def doctor(
    context: typer.Context,
    file: FileOption = None,
    pull: Annotated[
        str, typer.Option("--pull", metavar="IMAGE", help="Prove it: pull IMAGE through the shim.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at everything between a pod and its image, and say what mends it.

    In order: the configuration, the service and its socket, the runtime, each registry, the
    runtime's own way to it, the pause image, kubelet, the cluster. Nothing is changed but by
    --pull. Exit status: 0 no check failed (a warning is no failure); 1 one did.
    """
    with exits.reported(bad_config=exits.FAILED):
        found = _found(chosen_file(context, file), pull)
    value = [asdict(finding) for finding in found]
    if output is Output.TABLE and not sys.stdout.isatty():
        for finding in found:
            print(_lines(finding))
    else:
        render.show(output, value, lambda: [render.table_of(_COLUMNS, found)])
    failed = any(finding.result.value == "FAIL" for finding in found)
    raise typer.Exit(exits.FAILED if failed else exits.OK)


def _found(path: str, pull: str) -> list[Finding]:
    from cli.waiting import answer_of  # noqa: PLC0415 - a fast --help
    from shimcore.doctor import examine, node_of  # noqa: PLC0415

    async def look() -> list[Finding]:
        return await examine(await node_of(path), pull=pull)

    return answer_of(look(), f"pulling {pull}" if pull else "looking at the node")


def _lines(finding: Finding) -> str:
    """For a pipe: what begins with the result is one line, its mend stands below it."""
    line = f"{finding.result.value}  {finding.check}: {render.printable(finding.detail)}"
    mend = finding.mend.replace("\n", "\n      ")
    return line + (f"\n      mend: {mend}" if mend else "")


def _style(finding: Finding) -> str:
    return _STYLES[finding.result.value]


def _mend(mend: str) -> Cell:
    """Words are broken to fit; what is to be typed or copied stands in lines of its own."""
    said, *lines = mend.rstrip("\n").split("\n")
    if not lines and said.startswith(COMMANDS):
        typed, _, said = said.partition("  # ")
        lines = [typed]
    return Cell(said, DIM, tuple(lines))
