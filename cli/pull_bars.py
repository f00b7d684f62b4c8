"""Bars of pulls on a terminal: one for each image that is being pulled, one for all.

The CRI tells nothing of the bytes of a pull; the shim does, where the runtime shows them.
Until then an image's bar moves without an end.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from cli import exits, render
from cli.render import DIM, GOOD
from cli.under_way import pulled_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from shimcore.client.pull import Step


WIDE = 100
"""Columns of a terminal that leave room for bars."""


class PullBars:
    """Called with each step of the pulls; what has ended goes above the bars as a line."""

    def __init__(self, count: int, stream: TextIO, *, lines: bool) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._lines = lines
        self._progress = Progress(
            *_columns(self._console.width),
            console=self._console,
            # An error goes where standard error goes, which may be a file.
            redirect_stderr=sys.stderr.isatty(),
        )
        self._bars: dict[str, TaskID] = {}
        self._all = self._progress.add_task("all", total=count, state=f"0 of {count}")
        self._count = count

    def __enter__(self) -> Self:
        """The bars, shown."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away; the lines stay."""
        for bar in [*self._bars.values(), self._all]:
            self._progress.update(bar, visible=False)
        self._progress.stop()

    def __call__(self, step: Step) -> None:
        """Show it."""
        if not step.ended:
            self._move(step)
            return
        self._progress.remove_task(self._bars.pop(step.image))
        self._progress.advance(self._all)
        done = int(self._progress.tasks[0].completed)
        self._progress.update(self._all, state=f"{done} of {self._count}")
        if step.error:
            exits.say(f"{render.printable(step.image)}: {step.error}")
        elif self._lines:
            for line in render.wrapped(pulled_line(step), self._console.width):
                self._console.print(Text(line, GOOD), soft_wrap=True)

    def _move(self, step: Step) -> None:
        """Begin an image's bar, or bring it to where its pull is."""
        bar = self._bars.get(step.image)
        if bar is None:
            name = render.printable(step.image)
            bar = self._bars[step.image] = self._progress.add_task(
                name, total=None, state="pulling"
            )
        if step.registry or step.bytes:
            state = "pulling"
            if step.bytes or step.total_bytes or step.total_layers:
                state = render.so_far(step.bytes, step.total_bytes, step.layers, step.total_layers)
            source = f" from {step.registry}" if step.registry else ""
            self._progress.update(
                bar,
                total=step.total_bytes or None,
                completed=step.bytes,
                state=f"{state}{source}",
                refresh=True,
            )


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """Bars where there is room for them; else the words alone, which go on in the next line."""
    whole = Column(overflow="fold", no_wrap=False)
    if width < WIDE:
        text = "{task.description}  {task.fields[state]}"
        return (TextColumn(text, markup=False, table_column=whole),)
    return (
        TextColumn("{task.description}", markup=False, table_column=whole),
        # rich's own colour of a bar that is not full is a red.
        BarColumn(bar_width=20, complete_style=GOOD, finished_style=GOOD, pulse_style=GOOD),
        TextColumn("{task.fields[state]}", style=DIM, markup=False, table_column=whole),
        TimeElapsedColumn(),
    )
