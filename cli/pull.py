"""`pull`: fill the node through the running shim, before its pods come."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits, render
from cli.options import FileOption, Output, OutputOption, chosen_file
from cli.under_way import pulled_line
from shimcore.errors import ShimError

if TYPE_CHECKING:
    from shimcore.client.pull import Step

JOBS = 3
JITTER_LIMIT_S = 86_400.0
STDIN = "-"

OnStep = Callable[["Step"], None]


def pull(
    context: typer.Context,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE...]", show_default=False)
    ] = None,
    file: FileOption = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "-l",
            "--list",
            metavar="FILE",
            show_default=False,
            help="Pull what FILE lists: an image a line, # for comments; - is standard input.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "-j", "--jobs", min=1, max=64, metavar="N", help="How many to pull at a time."
        ),
    ] = JOBS,
    jitter: Annotated[
        str,
        typer.Option(
            "--jitter",
            metavar="DURATION",
            help="Wait first, at random up to this long (10m): many nodes spread their pulls.",
        ),
    ] = "0s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Pull images through the running shim, so that they are there before their pods.

    As kubelet pulls them: the shim finds the registry and has the login. Exit status: 0 all
    pulled; 1 any not.
    """
    from shimcore.client import pull as client  # noqa: PLC0415 - a fast --help

    if not images and not lists:
        raise typer.BadParameter("name an image, or a list with --list FILE")
    wait_s = _jitter_s(jitter)
    with exits.reported(bad_config=exits.FAILED):
        names, faults = client.wanted(_named(images or (), lists or ()))
        for fault in faults:
            exits.say(fault.error)
        if wait_s and names:
            exits.say(f"waiting {wait_s:.0f} s (--jitter {jitter})")
            time.sleep(wait_s)
        steps = faults + (_pulled(chosen_file(context, file), names, jobs, output) if names else [])
    failed = sum(bool(step.error) for step in steps)
    if output is not Output.TABLE:
        render.show(output, [_plain(step) for step in steps], list)
    elif len(steps) > 1:
        print(f"{len(steps) - failed} of {len(steps)} images pulled")
    raise typer.Exit(exits.FAILED if failed else exits.OK)


def _jitter_s(text: str) -> float:
    """Seconds to wait, at random up to a duration."""
    from shimcore.config.durations import parse_duration  # noqa: PLC0415 - a fast --help

    try:
        limit_s = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--jitter") from error
    if not 0 <= limit_s <= JITTER_LIMIT_S:
        raise typer.BadParameter("between 0s and 24h", param_hint="--jitter")
    return random.uniform(0, limit_s)  # noqa: S311 - nothing hangs on its being guessed


def _named(images: Iterable[str], lists: Iterable[str]) -> list[str]:
    """The images named, then those of the lists. Raises ShimError for a list that names none."""
    from shimcore.client.pull import listed  # noqa: PLC0415

    found = list(images)
    for path in lists:
        more = listed(_text(path))
        if not more:
            raise ShimError(f"{_title(path)} lists no image; it takes one a line")
        found += more
    return found


def _text(path: str) -> str:
    try:
        if path == STDIN:
            return sys.stdin.read()
        with open(path, encoding="utf-8-sig") as opened:
            return opened.read()
    except UnicodeDecodeError as error:
        raise ShimError(f"{_title(path)} is not a text in UTF-8") from error


def _title(path: str) -> str:
    return "standard input" if path == STDIN else path


def _pulled(file: str, names: Sequence[str], jobs: int, output: Output) -> list[Step]:
    """How each pull ended; meanwhile bars on a terminal, and a line for each."""
    from cli.waiting import answer_of  # noqa: PLC0415 - a fast --help
    from shimcore.client import pull as client  # noqa: PLC0415
    from shimcore.client.admin import running_endpoint  # noqa: PLC0415

    endpoint = running_endpoint(file)
    with _shown(len(names), output) as on_step:
        return answer_of(client.pull(endpoint, names, jobs, on_step))


def _shown(count: int, output: Output) -> AbstractContextManager[OnStep]:
    """What is told of each step: bars where a person looks on, lines where one reads later.

    The bars are on standard error where standard output has the JSON.
    """
    stream = sys.stdout if output is Output.TABLE else sys.stderr
    if stream.isatty():
        from cli.pull_bars import PullBars  # noqa: PLC0415 - slow to import

        return PullBars(count, stream, lines=output is Output.TABLE)
    return nullcontext(lambda step: _line(step, lines=output is Output.TABLE))


def _line(step: Step, *, lines: bool) -> None:
    if step.error:
        exits.say(f"{render.printable(step.image)}: {step.error}")
    elif lines and step.ended:
        print(pulled_line(step), flush=True)


def _plain(step: Step) -> dict[str, Any]:
    """The fixed keys of the JSON."""
    return {
        "image": step.image,
        "pulled": not step.error,
        "image_ref": step.reference or None,
        "elapsed_ms": round(step.elapsed_s * 1000, 1),
        "error": step.error or None,
    }
