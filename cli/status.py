"""`status`: how the running shim is, asked over its admin socket."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file
from cli.render import BAD, GOOD, WARN, Block, Cell, Column, Columns, Facts
from cli.under_way import PULLS, ago
from shimcore.errors import AdminError

if TYPE_CHECKING:
    from shimcore.client.admin import Status

WATCH_INTERVAL_S = 2.0

_KUBELET_STYLES = {"wired": GOOD, "not wired": BAD, "no kubelet": "", "unknown": WARN}

_REGISTRIES: Columns[dict[str, Any]] = {
    Column("REGISTRY"): lambda one: Cell(one["address"]),
    Column("STATE", below=True): lambda one: Cell(_state(one), GOOD if one["usable"] else BAD),
    Column("REASON", below=True): lambda one: Cell("" if one["usable"] else one["reason"] or ""),
}


def status(
    context: typer.Context,
    file: FileOption = None,
    output: OutputOption = Output.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every two seconds.")
    ] = False,
) -> None:
    """Show how the running shim is.

    Exit status: 0 serving, the runtime is ready and a registry can be used; 1 degraded,
    starting, or a bypass in its place; 3 not running.
    """
    path = chosen_file(context, file)
    with exits.reported():
        found = _watched(path, output) if watch else _show(_look(path), output)
    raise typer.Exit(_exit_status(found))


def _exit_status(found: Status) -> int:
    from shimcore.client.admin import Condition  # noqa: PLC0415 - a fast --help

    return {
        Condition.SERVING: exits.OK,
        Condition.STARTING: exits.FAILED,
        Condition.DEGRADED: exits.FAILED,
        Condition.BYPASS: exits.FAILED,
        Condition.NOT_RUNNING: exits.NOT_RUNNING,
    }[found.condition]


def _look(path: str) -> Status:
    """Raises AdminError."""
    from shimcore.client import admin  # noqa: PLC0415 - a fast --help

    return admin.status(admin.running_endpoint(path))


def _show(found: Status, output: Output) -> Status:
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
        with console.screen(hide_cursor=True) if live else nullcontext():
            while True:
                if live:
                    console.clear()
                found = _shown_anew(path, output, found)
                time.sleep(WATCH_INTERVAL_S)
                if not live:
                    print()
    except KeyboardInterrupt:
        if found is None:
            raise
    return found


def _shown_anew(path: str, output: Output, before: Status | None) -> Status:
    """What was shown: `before` where a look fails, which is told. Raises AdminError without it."""
    try:
        found = _look(path)
    except AdminError as error:
        if before is None:
            raise
        exits.say(str(error))
        return before
    if output is Output.YAML:
        print("---")
    return _show(found, output)


def _blocks(found: Status) -> list[Block]:
    facts = found.facts
    style = {"serving": GOOD, "degraded": WARN, "starting": WARN}.get(found.condition.value, BAD)
    runtime, config, cache = facts["runtime"], facts["config"], facts["cache"]
    words = f"starting: {facts['starting']}" if facts["starting"] else found.condition.value
    pairs = [("service", Cell(words, style))]
    pairs += [("", Cell(line, WARN)) for line in found.detail]
    pairs += [
        ("socket", Cell(facts["shim_socket"])),
        ("runtime", _runtime(runtime)),
        ("kubelet", _kubelet(facts["kubelet"])),
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
    pairs += [("older process", Cell(_older(one))) for one in facts["older_processes"]]
    if facts["older_unknown"]:
        pairs.append(("older process", Cell(f"unknown: {facts['older_unknown']}", WARN)))
    pairs += [("not kept", Cell(fault, WARN)) for fault in facts["unkept"]]
    if facts["last_failed_pull"]:
        pairs += _failed_pull(facts["last_failed_pull"])
    blocks: list[Block] = [Facts("image-cri-shim", tuple(pairs))]
    if facts["registries"]:
        blocks.append(render.table_of(_REGISTRIES, facts["registries"]))
    if facts["pulls"]:
        blocks.append(render.table_of(PULLS, facts["pulls"]))
    return blocks


def _older(process: dict[str, Any]) -> str:
    if not process["pid"]:
        return "one finishes its calls"
    calls = "1 call" if process["calls"] == 1 else f"{process['calls']} calls"
    return f"{process['pid']} (version {process['version']}) finishes {calls}"


def _failed_pull(call: dict[str, Any]) -> list[tuple[str, Cell]]:
    """The last one that failed: what it was, the runtime's word, and each registry's."""
    pod = f" for {call['pod']}" if call["pod"] else ""
    pairs = [("last failed pull", Cell(f"{call['image']}{pod}, {ago(call['time'])} ago", WARN))]
    pairs += [("", Cell(call["reason"]))] if call["reason"] else []
    for one in call["registries"]:
        detail = f": {one['detail']}" if one["detail"] else ""
        pairs.append(("", Cell(f"{one['registry']} {one['outcome']}{detail}")))
    return pairs


def _kubelet(kubelet: dict[str, Any]) -> Cell:
    words = "NOT wired" if kubelet["state"] == "not wired" else kubelet["state"]
    if kubelet["endpoint"]:
        words += f": {kubelet['endpoint']}"
    elif kubelet["detail"] and kubelet["state"] == "unknown":
        words += f" ({kubelet['detail']})"
    return Cell(words, _KUBELET_STYLES[kubelet["state"]])


def _runtime(runtime: dict[str, Any]) -> Cell:
    if not runtime["socket"]:
        return Cell("unknown")
    ready = "ready" if runtime["ready"] else "NOT ready"
    name = " ".join(part for part in (runtime["name"], runtime["version"]) if part)
    prefix = f"{name}, " if name else ""
    return Cell(f"{prefix}{ready}, at {runtime['socket']}", GOOD if runtime["ready"] else BAD)


def _config(config: dict[str, Any]) -> str:
    text = str(config["file"])
    if config["loaded_at"]:
        text += f", in force for {ago(config['loaded_at'])}"
    return text if config["valid"] else f"{text}; the file now is INVALID: {config['error']}"


def _kubernetes(state: dict[str, Any]) -> Cell:
    text = f"{state['state']}, for {ago(state['since'])}"
    if state["kept_at"]:
        text += f"; the node's copy of {state['kept_at']} counts meanwhile"
    good = state["state"] == "watching" and not state["error"]
    return Cell(text, GOOD if good else WARN)


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count:,} images"


def _state(registry: dict[str, Any]) -> str:
    """`in use`; `login refused for 3 min`; `down since 14:02, tried again in 3 s`."""
    if registry["usable"]:
        return str(registry["state"])
    if registry["retry_in_s"] is None:
        return f"{registry['state']} for {ago(registry['since'])}"
    since = datetime.fromisoformat(registry["since"]).astimezone()
    now = datetime.now(UTC).astimezone()
    shown = since.strftime("%H:%M:%S" if since.date() == now.date() else "%Y-%m-%d %H:%M")
    again = registry["retry_in_s"]
    trying = f"tried again in {again:.0f} s" if again >= 1 else "being tried again"
    return f"{registry['state']} since {shown}, {trying}"
