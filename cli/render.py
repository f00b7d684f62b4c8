"""A result for people or programs: tables on a terminal, aligned text in a pipe, JSON, YAML.

Nothing is ever cut off. In a pipe a row is a line, however long. On a terminal, columns that
do not fit (`Column.below`) go under their row with their titles; where the others do not fit
either, a row becomes a heading and a line for each column. Lines are broken between words; a
word longer than a line is left whole, for searching and copying.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

from cli.options import Output
from shimcore import lines

GOOD, BAD, WARN, DIM, HEADING = "green", "bold red", "yellow", "dim", "bold"

EMPTY = "-"
_GAP = 2
_INDENT = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """Text, and the style that it has on a terminal.

    `lines` follow it there, never broken: what is to be typed or copied.
    """

    text: str
    style: str = ""
    lines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.lines)


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
Line = tuple[Cell, ...]

T = TypeVar("T")
Columns = Mapping[Column, Callable[[T], Cell]]
"""The columns of a table, and what each has of an item."""


def table_of(columns: Columns[T], items: Iterable[T]) -> Table:
    """A row for each item."""
    rows = (tuple(cell(item) for cell in columns.values()) for item in items)
    return Table(tuple(columns), tuple(rows))


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
    if not stream.isatty():
        for line in _lines(blocks, sys.maxsize, ""):
            print("".join(cell.text for cell in line).rstrip(), file=stream)
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and a pipe needs none
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    rule = "─" if console.encoding.startswith("utf") else "-"
    for line in _lines(blocks, console.width, rule):
        console.print(*(Text(cell.text, cell.style) for cell in line), sep="", soft_wrap=True)


def duration(elapsed_ms: float) -> str:
    """`12 ms`, `3.0 s`."""
    return f"{elapsed_ms:.0f} ms" if elapsed_ms < 1000 else f"{elapsed_ms / 1000:.1f} s"


def amount(done: int, total: int | None) -> str:
    """`12.3 of 98.0 MB, 12 %`; decimal units, as registries count."""
    if not total:
        return f"{done / 1e6:.1f} MB" if done else "-"
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB, {min(done / total, 1):.0%}"


def so_far(done: int, total: int | None, layers: int, total_layers: int | None) -> str:
    """`3 of 5 layers, 12.3 of 98.0 MB, 12 %`; what is not known is left out."""
    counted = f"{layers} of {total_layers} layers, " if total_layers else ""
    return counted + amount(done, total)


def printable(text: str) -> str:
    """`text` on one line, with what could steer a terminal escaped; `-` for none."""
    return lines.printable(text) or EMPTY


def _lines(blocks: Sequence[Block], width: int, rule: str) -> Iterator[Line]:
    """Every line that the blocks are at a width; `rule` is below the titles of a table."""
    for number, block in enumerate(blocks):
        if number:
            yield ()
        if isinstance(block, Facts):
            yield from _facts(block, width)
        else:
            yield from _table(block, width, rule)


def _facts(facts: Facts, width: int) -> Iterator[Line]:
    """Label and value side by side; a value that does not fit there goes below its label."""
    yield from _words(Cell(facts.heading, HEADING), width, 0)
    column = max((len(label) for label, _ in facts.pairs), default=0)
    for label, cell in facts.pairs:
        aligned = label or width == sys.maxsize
        yield from _pair(label.ljust(column) if aligned else "", cell, width, _GAP)


def _pair(label: str, cell: Cell, width: int, indent: int) -> Iterator[Line]:
    """A label and its value, in one line if they fit."""
    shown = " " * indent + label + " " * _GAP
    if label and len(shown) + _width(cell) <= width:
        yield Cell(shown, DIM), Cell(_in_line(cell), cell.style)
        return
    if label:
        yield (Cell(shown.rstrip(), DIM),)
    if cell.text:
        yield from _words(cell, width, indent + _GAP)
    for line in cell.lines:
        yield (Cell(printable(" " * (indent + _GAP) + line), cell.style),)


def _table(table: Table, width: int, rule: str) -> Iterator[Line]:
    """One table if it fits; otherwise the columns that do not are printed under their rows."""
    inline = _columns_that_fit(table, width)
    if not inline:
        yield from _records(table, width)
        return
    below = [index for index in range(inline, len(table.columns)) if _has_text(table, index)]
    columns, widths = table.columns[:inline], _natural_widths(table)[:inline]
    yield _row([Cell(column.title, HEADING) for column in columns], columns, widths)
    if rule:
        yield _row([Cell(rule * width, DIM) for width in widths], columns, widths)
    labels = [table.columns[index].title for index in below]
    label_width = max(map(len, labels), default=0)
    for row in table.rows:
        yield _row(row[:inline], columns, widths)
        for label, index in zip(labels, below, strict=True):
            if row[index]:
                yield from _pair(label.lower().ljust(label_width), row[index], width, _INDENT)


def _records(table: Table, width: int) -> Iterator[Line]:
    """Each row as its first cell, and title and text of the others."""
    titles = [column.title.lower() for column in table.columns]
    for row in table.rows:
        pairs = [pair for pair in zip(titles, row, strict=True) if pair[1]]
        first = 1 if row[0].text else 0
        yield from _facts(Facts(row[0].text, tuple(pairs[first:])), width)


def _row(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]) -> Line:
    """One line of a table."""
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = _in_line(cell)
        aligned = text.rjust(width) if column.right else text.ljust(width)
        parts += [Cell(aligned, cell.style), Cell(" " * _GAP)]
    return tuple(parts[:-1])


def _words(cell: Cell, width: int, indent: int) -> Iterator[Line]:
    """On lines of its own, broken between words."""
    margin = " " * indent
    for line in wrapped(printable(cell.text), width, margin, margin):
        yield (Cell(line, cell.style),)


def wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """The lines of a text, broken between words; a longer word is left whole.

    `first` stands before the first line, `others` before the rest.
    """
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _in_line(cell: Cell) -> str:
    """What stands for it in one line."""
    return printable("".join((cell.text, *cell.lines)))


def _width(cell: Cell) -> int:
    """Columns that it takes in one line; more than there are where it has several lines."""
    parts = [part for part in (cell.text, *cell.lines) if part]
    return len(_in_line(cell)) if len(parts) < 2 else sys.maxsize


def _columns_that_fit(table: Table, width: int) -> int:
    """How many columns, from the first on, are printed as columns; 0: not even those that must."""
    widths = _natural_widths(table)
    for count in range(len(widths), 0, -1):
        if sum(widths[:count]) + _GAP * (count - 1) <= width:
            return count
        if not table.columns[count - 1].below:
            return 0
    return 0


def _natural_widths(table: Table) -> list[int]:
    return [
        max([len(column.title), *(_width(row[index]) for row in table.rows)])
        for index, column in enumerate(table.columns)
    ]


def _has_text(table: Table, index: int) -> bool:
    return any(row[index] for row in table.rows)
