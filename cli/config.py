"""`config`: what is in force and where it came from, what is wrong with a file, the schema."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits, render
from cli.help_pages import command_group
from cli.options import FileOption, Output, OutputOption, chosen_file, named_file, started
from cli.render import DIM, WARN, Block, Cell, Column, Columns, Facts

if TYPE_CHECKING:
    from shimcore.client.admin import Shown
    from shimcore.config.provenance import Value

_COLUMNS: Columns[Value] = {
    Column("KEY"): lambda value: Cell(value.key),
    Column("VALUE"): lambda value: Cell(value.text),
    Column("FROM", below=True): lambda value: Cell(
        value.origin, DIM if value.origin == "default" else ""
    ),
}


def show(
    context: typer.Context, file: FileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show the configuration in force, each value with its origin, secrets masked.

    Asks the running shim; without one, shows what it would start with. A FILE that is named,
    and is not the one that the running shim has, is shown itself: what it would give.
    """
    import yaml  # noqa: PLC0415 - a fast --help

    from shimcore.client.admin import running_endpoint, show_config  # noqa: PLC0415

    path = chosen_file(context, file)
    named = named_file(context, file) is not None
    with exits.reported():
        endpoint = running_endpoint(path)
        shown = show_config(endpoint)
        if shown is None:
            exits.say(
                f"no shim is running at {endpoint.shim_socket}; this is what {path} would give"
            )
        elif named and not _same(shown.state["file"], path):
            theirs = shown.state["file"]
            exits.say(f"the running shim has {theirs}; this is what {path} would give")
            shown = None
        running = shown is not None
        shown = shown or _of_file(path)
    value = {
        "running": running,
        **shown.state,
        "config": yaml.safe_load(shown.yaml),
        "values": [{"key": v.key, "value": v.text, "origin": v.origin} for v in shown.values],
    }
    render.show(output, value, lambda: _blocks(shown, running=running))


def check(
    context: typer.Context,
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="A configuration file, or a manifest of the ConfigMap or the Secret.",
            show_default=False,
        ),
    ] = None,
    file: FileOption = None,
) -> None:
    """Check a file and say everything that is wrong with it.

    Exit status: 0 nothing is; 78 it cannot be used.
    """
    from shimcore.cluster.checking import checked  # noqa: PLC0415 - a fast --help
    from shimcore.cluster.starting import in_time  # noqa: PLC0415

    path = named or chosen_file(context, file)
    with exits.reported():
        notices = in_time(path, lambda: checked(path))
    for notice in notices:
        exits.say(f"{path}: {notice}")
    print(f"{render.printable(path)}: no fault")


def init(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="A new file to write, which its owner alone may read; else standard output.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a configuration with every key in it, commented.

    A file that is there already is left alone. Exit status: 0 written; 1 not.
    """
    from shimcore.config.sample import sample, write_sample  # noqa: PLC0415 - a fast --help

    if named is None:
        print(sample(), end="")
        return
    with exits.reported():
        write_sample(named)
    print(f"{render.printable(named)}: written; set address and auth in it")


def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    from shimcore.config.schema import schema as made  # noqa: PLC0415 - a fast --help

    print(json.dumps(made(), indent=2, ensure_ascii=False))


def _same(one: str, other: str) -> bool:
    """Whether both paths lead to one file."""
    return os.path.realpath(one) == os.path.realpath(other)


def _of_file(path: str) -> Shown:
    """What a shim that started now would have. Raises ConfigError."""
    from shimcore.client.admin import shown_of  # noqa: PLC0415 - a fast --help
    from shimcore.config.provenance import sources  # noqa: PLC0415
    from shimcore.daemon.states import shown_config  # noqa: PLC0415
    from shimcore.pb.admin_pb2 import ConfigState  # noqa: PLC0415

    config = started(path)
    answer = shown_config(config)
    answer.config.CopyFrom(ConfigState(file=path, valid=True, sources=sources(config)))
    return shown_of(answer)


def _blocks(shown: Shown, *, running: bool) -> list[Block]:
    state = shown.state
    heading = "configuration in force" if running else "configuration of the file"
    pairs = [("from", Cell(source)) for source in state["sources"]]
    if state["error"]:
        pairs.append(("the file now is INVALID", Cell(state["error"], WARN)))
    kubernetes = state["kubernetes"]
    if kubernetes:
        good = kubernetes["state"] == "watching"
        pairs.append(("kubernetes", Cell(kubernetes["state"], "" if good else WARN)))
        pairs += [
            ("", Cell(kubernetes[name], WARN)) for name in ("detail", "error") if kubernetes[name]
        ]
    return [Facts(heading, tuple(pairs)), render.table_of(_COLUMNS, shown.values)]


group = command_group(
    "Show the configuration in force, check a file, or write one.", show, check, init, schema
)
