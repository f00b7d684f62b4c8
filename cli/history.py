"""`history`: what has become of image calls lately, asked of the running shim."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file
from cli.render import BAD, GOOD, WARN, Block, Cell, Column, Columns
from cli.under_way import PULLS

if TYPE_CHECKING:
    from shimcore.client.admin import Endpoint, History

LOOK_S = 1.0
"""Between two questions of --follow."""
GONE_S = 4.0
"""How long nobody may answer them: a process that hands over leaves the socket to the next."""

_STYLES = {"pulled": GOOD, "failed": BAD, "cancelled": WARN, "absent": WARN}
_GOOD = frozenset({"pulled", "skipped"})


def history(
    context: typer.Context,
    file: FileOption = None,
    output: OutputOption = Output.TABLE,
    failed: Annotated[bool, typer.Option("--failed", help="Only calls that failed.")] = False,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="TEXT", help="Only images with TEXT in their name."),
    ] = None,
    pod: Annotated[
        str | None,
        typer.Option("--pod", metavar="TEXT", help="Only pods with TEXT in namespace/name."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Go on with what ends, until interrupted.")
    ] = False,
) -> None:
    """Show recent image calls: each registry that was tried, what it said, bytes and time.

    The running shim remembers some hundreds, in memory alone; pulls under way come last.
    With --follow -o json prints an object a line. Exit status: 0; 3 not running.
    """
    from shimcore.client import admin  # noqa: PLC0415 - a fast --help

    with exits.reported(bad_config=exits.FAILED):
        endpoint = admin.running_endpoint(chosen_file(context, file))
        found = admin.history(endpoint)
        if found is None:
            see = endpoint.command("status")
            exits.say(f"no shim is running at {endpoint.shim_socket}; see {see}")
            raise typer.Exit(exits.NOT_RUNNING)
        wanted = _Wanted(failed, image or "", pod or "")
        if follow:
            _follow(endpoint, found, wanted, output)
        else:
            _show(found, wanted, output)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which calls are shown."""

    failed: bool
    image: str
    pod: str

    def calls(self, found: History) -> list[dict[str, Any]]:
        return [call for call in found.calls if self._has(call)]

    def pulls(self, found: History) -> list[dict[str, Any]]:
        """Those under way: none of them has failed, and what pod they are for is not known."""
        if self.failed or self.pod:
            return []
        return [pull for pull in found.pulls if self.image in pull["image"]]

    def _has(self, call: dict[str, Any]) -> bool:
        if self.failed and call["outcome"] != "failed":
            return False
        return self.image in call["image"] and self.pod in (call["pod"] or "")


def _show(found: History, wanted: _Wanted, output: Output) -> None:
    calls, pulls = wanted.calls(found), wanted.pulls(found)
    value = {"calls": calls, "pulls": pulls}
    if output is Output.TABLE and not calls and not pulls:
        print("no image call" if found.last == 0 else "no such image call is remembered")
        return
    render.show(output, value, lambda: list(_blocks(calls, pulls)))


def _blocks(calls: list[dict[str, Any]], pulls: list[dict[str, Any]]) -> Iterator[Block]:
    if calls:
        yield render.table_of(_COLUMNS, calls)
    if pulls:
        yield render.table_of(PULLS, pulls)


def _follow(endpoint: Endpoint, found: History, wanted: _Wanted, output: Output) -> None:
    """Calls as they end, until interrupted or the shim is gone."""
    now: History | None = found
    while now is not None:
        _print(wanted.calls(now), output)
        time.sleep(LOOK_S)
        now = _since(endpoint, now)
    exits.say("the shim has stopped")
    raise typer.Exit(exits.NOT_RUNNING)


def _since(endpoint: Endpoint, before: History) -> History | None:
    """What has come since, once a shim serves; None when there is none any more.

    Raises AdminError.
    """
    from shimcore.client import admin  # noqa: PLC0415 - as above
    from shimcore.errors import AdminError  # noqa: PLC0415 - as above

    until = time.monotonic() + GONE_S
    while True:
        try:
            found = admin.history(endpoint, before)
        except admin.StartingError:  # the next one waits for the runtime
            until = time.monotonic() + GONE_S
        except AdminError:
            if time.monotonic() >= until:
                raise
        else:
            if found is not None or time.monotonic() >= until:
                return found
        time.sleep(LOOK_S)


def _print(calls: list[dict[str, Any]], output: Output) -> None:
    for call in calls:
        if output is Output.JSON:
            print(json.dumps(call))
        elif output is Output.YAML:
            print("---")
            render.show(output, call, list)
        else:
            texts = (cell(call).text for cell in _COLUMNS.values())
            print("  ".join(filter(None, texts)))
    sys.stdout.flush()


def _outcome(call: dict[str, Any]) -> Cell:
    kind = "" if call["call"] == "PullImage" else f"{call['call']} "
    return Cell(f"{kind}{call['outcome']}", _STYLES.get(call["outcome"], ""))


def _clock(text: str) -> str:
    """A time of the JSON, where the reader is."""
    return datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M:%S")


def _why(call: dict[str, Any]) -> str:
    """What each registry said that did not serve, and the runtime's words."""
    reasons = [_reason(one) for one in call["registries"] if one["outcome"] not in _GOOD]
    return "; ".join([*reasons, *([call["reason"]] if call["reason"] else [])])


def _reason(attempt: dict[str, Any]) -> str:
    """`hub:5000 stalled after 12.0 MB, 31 s: nothing has come for 30 s`."""
    text = f"{attempt['registry']} {attempt['outcome']}"
    if attempt["bytes"]:
        text += f" after {render.amount(attempt['bytes'], None)}"
    if attempt["seconds"]:
        text += f", {render.duration(attempt['seconds'] * 1000)}"
    return f"{text}: {attempt['detail']}" if attempt["detail"] else text


_COLUMNS: Columns[dict[str, Any]] = {
    Column("TIME"): lambda call: Cell(_clock(call["time"])),
    Column("OUTCOME"): _outcome,
    Column("IMAGE", below=True): lambda call: Cell(call["image"]),
    Column("POD", below=True): lambda call: Cell(call["pod"] or ""),
    Column("FROM", below=True): lambda call: Cell(call["registry"] or ""),
    Column("BYTES", below=True): lambda call: Cell(
        render.amount(call["bytes"], None) if call["bytes"] else ""
    ),
    Column("TOOK", below=True): lambda call: Cell(render.duration(call["seconds"] * 1000)),
    Column("WHY", below=True): lambda call: Cell(
        _why(call), BAD if call["outcome"] == "failed" else ""
    ),
}
