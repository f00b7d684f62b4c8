"""`resolve`: what would be pulled for an image, and why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file, started
from cli.render import BAD, DIM, GOOD, WARN, Block, Cell, Column, Columns, Facts
from shimcore.errors import ReferenceSyntaxError

if TYPE_CHECKING:
    from shimcore.config import Config
    from shimcore.images.explanation import CandidateReport, Resolution
    from shimcore.images.presence import Presence

_WORST_LAST = (exits.OK, exits.NONE_HAS_IT, exits.FAILED)
_STYLES = {"found": GOOD, "absent": WARN, "skipped": DIM}

_COLUMNS: Columns[CandidateReport] = {
    Column("REGISTRY"): lambda one: Cell(one.registry),
    Column("OUTCOME"): lambda one: Cell(str(one.outcome), _STYLES.get(one.outcome, BAD)),
    Column("PRIORITY", right=True): lambda one: Cell(str(one.priority)),
    Column("TIME", right=True): lambda one: Cell(
        "" if one.outcome == "skipped" else render.duration(one.elapsed_ms)
    ),
    Column("NAME THERE", below=True): lambda one: Cell(one.reference),
    Column("DIGEST", below=True): lambda one: Cell(one.digest or "", DIM),
    Column("WHY", below=True): lambda one: Cell(
        one.detail, DIM if one.outcome == "skipped" else ""
    ),
}


def resolve(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", show_default=False)],
    file: FileOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no registry; show the names alone.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what would be pulled for an image, and why.

    Exit status: 0 a registry has it; 3 none has it; 1 could not tell. Of several images the
    worst counts: 1, then 3. With --offline: 0 a registry would be asked; 3 none would be. For
    people it says, too, whether the image is on the node, and for which platforms it is there.
    """
    with exits.reported(bad_config=exits.FAILED):
        config = started(chosen_file(context, file))
        whole = output is Output.TABLE
        found, valid = _found(images, config, offline=offline, whole=whole)
    resolutions = [resolution for resolution, _ in found]
    for warning in _warnings(resolutions):
        exits.say(f"warning: {warning}")
    if resolutions or output is not Output.TABLE:
        render.show(
            output,
            [resolution.as_dict() for resolution in resolutions],
            lambda: [block for each in found for block in _blocks(*each, offline)],
        )
    statuses = [_status(resolution, offline=offline) for resolution in resolutions]
    statuses += [] if valid else [exits.FAILED]
    raise typer.Exit(max(statuses, key=_WORST_LAST.index))


def _found(
    images: Sequence[str], config: Config, *, offline: bool, whole: bool
) -> tuple[list[tuple[Resolution, Presence]], bool]:
    """What is known of every image with a valid name, and whether all of them were.

    `whole`: with what is shown to people alone.
    """
    from cli.waiting import answer_of, asking  # noqa: PLC0415 - a fast --help
    from shimcore.reference import parse  # noqa: PLC0415

    names = []
    for image in images:
        try:
            parse(image)
        except ReferenceSyntaxError as error:
            exits.say(_fault(image, error))
        else:
            names.append(image)
    waiting_for = "" if offline else asking(len(config.registries))
    found = answer_of(_explain(names, config, offline=offline, whole=whole), waiting_for)
    return found, len(names) == len(images)


def _fault(image: str, error: Exception) -> str:
    """What is wrong with a name, in one line; a URL is what is often given for one."""
    scheme, mark, name = image.partition("://")
    if mark and scheme.isalpha() and image.isprintable():
        return f"an image name has no scheme: {name} for {scheme}://{name}"
    return str(error)


async def _explain(
    images: Sequence[str], config: Config, *, offline: bool, whole: bool
) -> list[tuple[Resolution, Presence]]:
    import asyncio  # noqa: PLC0415 - a fast --help

    from cli.waiting import registry_client  # noqa: PLC0415
    from shimcore.images.explanation import explain  # noqa: PLC0415
    from shimcore.images.presence import Presence, presences  # noqa: PLC0415

    asked = registry_client(config.registries, config.probe_timeout_s)
    async with nullcontext() if offline else asked as client:
        found = await asyncio.gather(*(explain(image, config, client) for image in images))
        beside = await presences(found, config, client) if whole else [Presence()] * len(found)
    return list(zip(found, beside, strict=True))


def _warnings(resolutions: Sequence[Resolution]) -> list[str]:
    """Every warning once."""
    from shimcore.images.explanation import shared_names  # noqa: PLC0415 - a fast --help

    own = [warning for resolution in resolutions for warning in resolution.warnings]
    shared = shared_names(resolutions)
    return list(dict.fromkeys([*own, *shared]))


def _status(resolution: Resolution, *, offline: bool) -> int:
    asked = [each for each in resolution.candidates if each.outcome != "skipped"]
    if resolution.registry is not None and (offline or asked):
        return exits.OK
    could_not_tell = any(each.outcome != "absent" for each in asked)
    return exits.FAILED if could_not_tell else exits.NONE_HAS_IT


def _blocks(resolution: Resolution, presence: Presence, offline: bool) -> list[Block]:
    pairs = [*_facts(resolution, offline), *_present(presence)]
    facts = Facts(resolution.image, tuple(pairs))
    if not resolution.candidates:
        return [facts]
    return [facts, render.table_of(_COLUMNS, resolution.candidates)]


def _facts(resolution: Resolution, offline: bool) -> list[tuple[str, Cell]]:
    named = []
    if resolution.canonical != resolution.image:
        named = [("in full", Cell(resolution.canonical))]
    if resolution.registry is not None:
        verb = "would be asked first" if offline else "has it"
        return [
            *named,
            ("pulled as", Cell(resolution.resolved or "", GOOD)),
            ("from", Cell(f"{resolution.registry}, which {verb}")),
        ]
    if resolution.resolved is None:
        denied = f"nothing: {_why_none(resolution)}, and `fallback: deny` keeps its own name back"
        return [*named, ("pulled as", Cell(denied, BAD))]
    why = ("why", Cell(_why_own(resolution)))
    return [*named, ("pulled as", Cell(resolution.resolved, WARN)), why]


def _present(presence: Presence) -> list[tuple[str, Cell]]:
    facts = []
    if presence.platforms:
        facts.append(("platforms", Cell(", ".join(presence.platforms))))
    if presence.image_id is not None:
        there = f"already: {presence.image_id}" if presence.image_id else "not yet"
        facts.append(("on the node", Cell(there)))
    return facts


def _why_own(resolution: Resolution) -> str:
    if not resolution.candidates:
        return "an image ID is never rewritten"
    return f"its own name: {_why_none(resolution)}"


def _why_none(resolution: Resolution) -> str:
    outcomes = {each.outcome for each in resolution.candidates} - {"skipped"}
    if not outcomes:
        return "no registry is asked for it"
    if outcomes == {"absent"}:
        return "no registry has it"
    return "not found, but not every registry could tell"
