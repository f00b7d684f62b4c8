"""`status`: how the running shim is, asked over its admin socket."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file
from cli.render import BAD, GOOD, WARN, Block, Cell, Column, Facts, Table

if TYPE_CHECKING:
    from shimcore.daemon.asking import Status

WATCH_INTERVAL_S = 2.0

_STATE_STYLES = {"closed": GOOD, "open": BAD, "half-open": WARN}
_STATE_WORDS = {
    "closed": "in use",
    "open": "failing, not asked for a moment",
    "half-open": "failed, being tried again",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    context: typer.Context,
    file: FileOption = None,
    output: OutputOption = Output.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every two seconds.")
    ] = False,
) -> None:
    """Show how the running shim is.

    Exit status: 0 serving and the runtime is ready; 1 degraded, or a bypass in its place;
    3 not running.
    """
    path = chosen_file(context, file)
    with exits.reported():
        found = _watched(path, output) if watch else _shown(path, output)
    raise typer.Exit(_exit_status(found))


def _exit_status(found: Status) -> int:
    from shimcore.daemon.asking import Condition  # noqa: PLC0415 - a fast --help

    return {
        Condition.SERVING: exits.OK,
        Condition.DEGRADED: exits.FAILED,
        Condition.BYPASS: exits.FAILED,
        Condition.NOT_RUNNING: exits.NOT_RUNNING,
    }[found.condition]


def _shown(path: str, output: Output) -> Status:
    from shimcore.daemon import asking  # noqa: PLC0415 - a fast --help

    place = asking.place_of(path)
    found = asking.status(place)
    if output is not Output.TABLE:
        for line in found.detail:
            exits.say(line)
    render.show(output, found.facts, lambda: _blocks(found))
    sys.stdout.flush()
    return found


def _watched(path: str, output: Output) -> Status:
    """Show it until interrupted; the result is what was shown last."""
    from rich.console import Console  # noqa: PLC0415 - slow to import

    console = Console()
    live = console.is_terminal and output is Output.TABLE
    found = None
    try:
        with console.screen(hide_cursor=True) if live else _nothing():
            while True:
                if live:
                    console.clear()
                found = _shown(path, output)
                time.sleep(WATCH_INTERVAL_S)
                if not live:
                    print()
    except KeyboardInterrupt:
        if found is None:
            raise
    return found


def _nothing() -> Any:
    from contextlib import nullcontext  # noqa: PLC0415 - used with --watch only

    return nullcontext()


def _blocks(found: Status) -> list[Block]:
    facts = found.facts
    style = {"serving": GOOD, "degraded": WARN}.get(found.condition.value, BAD)
    runtime, config, cache = facts["runtime"], facts["config"], facts["cache"]
    pairs = [("service", Cell(found.condition.value, style))]
    pairs += [("", Cell(line, WARN)) for line in found.detail]
    pairs += [
        ("socket", Cell(facts["shim_socket"])),
        ("runtime", _runtime(runtime)),
        ("config", Cell(_config(config), "" if config["valid"] else WARN)),
    ]
    pairs += [("", Cell(f"and {source}")) for source in config.get("sources", [])[1:]]
    if "kubernetes" in config:
        pairs.append(("kubernetes", _kubernetes(config["kubernetes"])))
    if facts["serving"]:
        asked = cache["hits"] + cache["misses"]
        share = f", {cache['hits']} of {asked} questions answered from it" if asked else ""
        pairs.append(("cache", Cell(f"{_images(cache['entries'])}{share}")))
        pairs.append(("calls", Cell(f"{facts['calls']:,}")))
    blocks: list[Block] = [Facts("image-cri-shim", tuple(pairs))]
    if facts["registries"]:
        blocks.append(_registries(facts["registries"]))
    if facts["pulls"]:
        blocks.append(_pulls(facts["pulls"]))
    return blocks


def _pulls(pulls: list[dict[str, Any]]) -> Table:
    now = datetime.now(UTC)
    rows = tuple(
        (
            Cell(one["image"]),
            Cell(one["registry"] or "-"),
            Cell(render.amount(one["bytes"], one["total_bytes"])),
            Cell(_age((now - datetime.fromisoformat(one["started_at"])).total_seconds())),
        )
        for one in pulls
    )
    columns = (Column("PULLING", below=True), Column("FROM"), Column("SO FAR"), Column("FOR"))
    return Table(columns, rows)


def _runtime(runtime: dict[str, Any]) -> Cell:
    if not runtime["socket"]:
        return Cell("unknown")
    ready = "ready" if runtime["ready"] else "NOT ready"
    name = " ".join(part for part in (runtime["name"], runtime["version"]) if part)
    said = f"{name}, " if name else ""
    return Cell(f"{said}{ready}, at {runtime['socket']}", GOOD if runtime["ready"] else BAD)


def _config(config: dict[str, Any]) -> str:
    text = str(config["file"])
    if config["loaded_at"]:
        loaded = datetime.fromisoformat(config["loaded_at"])
        text += f", in force for {_age((datetime.now(UTC) - loaded).total_seconds())}"
    return text if config["valid"] else f"{text}; the file now is INVALID: {config['error']}"


def _kubernetes(state: dict[str, Any]) -> Cell:
    since = datetime.fromisoformat(state["since"])
    text = f"{state['state']}, for {_age((datetime.now(UTC) - since).total_seconds())}"
    if state["kept_at"]:
        text += f"; the node's copy of {state['kept_at']} counts meanwhile"
    good = state["state"] == "watching" and not state["error"]
    return Cell(text, GOOD if good else WARN)


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count:,} images"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _registries(registries: list[dict[str, str]]) -> Table:
    rows = tuple(
        (
            Cell(one["address"]),
            Cell(_STATE_WORDS.get(one["state"], one["state"]), _STATE_STYLES.get(one["state"], "")),
        )
        for one in registries
    )
    return Table((Column("REGISTRY"), Column("STATE", below=True)), rows)
