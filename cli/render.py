"""A result for people or programs: tables on a terminal, aligned text in a pipe, JSON, YAML.

Nothing is ever cut off. In a pipe a row is a line, however long. On a terminal, columns that
do not fit (`Column.below`) go under their row, and what is longer than a line goes on in the next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GOOD, BAD, WARN, DIM, HEADING = "green", "bold red", "yellow", "dim", "bold"

EMPTY = "-"
_GAP = 2
_INDENT = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """Text, and the style that it has on a terminal."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; one that is `below` leaves its row when the terminal is too narrow."""

    title: str
    right: bool = False
    below: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. The columns that may go below come last."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """A heading, and what is to be said of it: label and value."""

    heading: str
    pairs: tuple[tuple[str, Cell], ...] = ()


Block = Table | Facts


def show(output: Output, value: Any, blocks: Callable[[], Sequence[Block]]) -> None:
    """Print `value` (fit for JSON) as JSON or YAML, or else the blocks, on standard output."""
    import json  # noqa: PLC0415 - not for --help

    if output is Output.JSON:
        print(json.dumps(value, indent=2))
    elif output is Output.YAML:
        import yaml  # noqa: PLC0415 - as above

        plain = json.loads(json.dumps(value))
        yaml.safe_dump(plain, sys.stdout, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    else:
        print_blocks(blocks())


def print_blocks(blocks: Sequence[Block], stream: TextIO | None = None) -> None:
    """Print blocks for people, an empty line between them."""
    stream = stream or sys.stdout
    if stream.isatty():
        _print_rich(blocks, stream)
        return
    print("\n\n".join("\n".join(_plain(block)) for block in blocks), file=stream)


def duration(elapsed_ms: float) -> str:
    """`12 ms`, `3.0 s`."""
    return f"{elapsed_ms:.0f} ms" if elapsed_ms < 1000 else f"{elapsed_ms / 1000:.1f} s"


def amount(done: int, total: int | None) -> str:
    """`12.3 of 98.0 MB, 12 %`; decimal units, as registries count."""
    if not total:
        return f"{done / 1e6:.1f} MB" if done else "-"
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB, {min(done / total, 1):.0%}"


def printable(text: str) -> str:
    """`text` on one line, with what could steer a terminal escaped; `-` for none."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown or EMPTY


def _plain(block: Block) -> list[str]:
    if isinstance(block, Facts):
        width = max((len(label) for label, _ in block.pairs), default=0)
        lines = [f"  {label:<{width}}  {printable(cell.text)}" for label, cell in block.pairs]
        return [printable(block.heading), *lines]
    rows = [[column.title for column in block.columns]]
    rows += [[printable(cell.text) for cell in row] for row in block.rows]
    widths = [max(map(len, texts)) for texts in zip(*rows, strict=True)]
    return [_aligned(row, widths, block.columns) for row in rows]


def _aligned(texts: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    cells = (
        text.rjust(width) if column.right else text.ljust(width)
        for text, width, column in zip(texts, widths, columns, strict=True)
    )
    return (" " * _GAP).join(cells).rstrip()


def _print_rich(blocks: Sequence[Block], stream: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and a pipe needs none

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        if isinstance(block, Facts):
            _print_facts(console, block)
        else:
            _print_table(console, block)


def _print_facts(console: Console, facts: Facts) -> None:
    """Label and value side by side; a value that would be folded there goes below its label."""
    from rich.text import Text  # noqa: PLC0415 - as above

    console.print(Text(printable(facts.heading), HEADING), soft_wrap=True)
    label_width = max((len(label) for label, _ in facts.pairs), default=0) + _GAP
    room = console.width - label_width - _GAP
    for label, cell in facts.pairs:
        shown = Text(" " * _GAP + label.ljust(label_width), DIM)
        if len(printable(cell.text)) <= room:
            console.print(shown, _text(cell), sep="", soft_wrap=True)
            continue
        if label:
            shown.rstrip()
            console.print(shown)
        _print_indented(console, cell)


def _print_table(console: Console, table: Table) -> None:
    """One table if it fits; otherwise the columns that do not are printed under their rows."""
    inline = _columns_that_fit(table, console.width)
    below = [index for index in range(inline, len(table.columns)) if _has_text(table, index)]
    columns, widths = table.columns[:inline], _widths(table, console.width)[:inline]
    titles = [Cell(column.title, HEADING) for column in columns]
    console.print(_row(titles, columns, widths))
    rule = "─" if console.encoding.startswith("utf") else "-"
    console.print(_row([Cell(rule * width, DIM) for width in widths], columns, widths))
    for row in table.rows:
        console.print(_row(row[:inline], columns, widths))
        for index in below:
            if row[index].text:
                _print_indented(console, row[index])


def _row(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]) -> RenderableType:
    """One line of a table; more where a cell is folded."""
    from rich.table import Table as Grid  # noqa: PLC0415 - as above

    grid = Grid.grid(padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(width=width, overflow="fold", justify="right" if column.right else "left")
    grid.add_row(*(_text(cell) for cell in cells))
    return grid


def _print_indented(console: Console, cell: Cell) -> None:
    """On lines of its own; a word longer than a line is left whole, for searching and copying."""
    from rich.padding import Padding  # noqa: PLC0415 - as above

    if " " not in cell.text:
        console.print(" " * _INDENT, _text(cell), sep="", soft_wrap=True)
    else:
        console.print(Padding(_text(cell), (0, 0, 0, _INDENT), expand=False))


def _text(cell: Cell) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415 - as above

    return Text(printable(cell.text), cell.style, overflow="fold")


def _columns_that_fit(table: Table, width: int) -> int:
    """How many columns, from the first on, are printed as columns."""
    widths = _natural_widths(table)
    for count in range(len(widths), 0, -1):
        fits = sum(widths[:count]) + _GAP * (count - 1) <= width
        if fits or not table.columns[count - 1].below:
            return count
    return len(widths)


def _widths(table: Table, width: int) -> list[int]:
    """The columns' widths; the first gives way when those that must stay do not fit."""
    widths = _natural_widths(table)
    fixed = [each for each, column in zip(widths, table.columns, strict=True) if not column.below]
    excess = sum(fixed) + _GAP * (len(fixed) - 1) - width
    if excess > 0:
        widths[0] = max(widths[0] - excess, len(table.columns[0].title))
    return widths


def _natural_widths(table: Table) -> list[int]:
    return [
        max([len(column.title), *(len(printable(row[index].text)) for row in table.rows)])
        for index, column in enumerate(table.columns)
    ]


def _has_text(table: Table, index: int) -> bool:
    return any(row[index].text for row in table.rows)
