"""A result for people or programs: tables on a terminal, aligned text in a pipe, JSON, YAML.

Nothing is ever cut off. In a pipe a row is a line, however long. On a terminal, columns that
do not fit (`Column.below`) go under their row with their titles; where the others do not fit
either, a row becomes a heading and a line for each column. Lines are broken between words; a
word longer than a line is left whole, for searching and copying.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

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


def so_far(done: int, total: int | None, layers: int, total_layers: int | None) -> str:
    """`3 of 5 layers, 12.3 of 98.0 MB, 12 %`; what is not known is left out."""
    counted = f"{layers} of {total_layers} layers, " if total_layers else ""
    return counted + amount(done, total)


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
    """Label and value side by side; a value that does not fit there goes below its label."""
    _print_words(console, Cell(facts.heading, HEADING), 0)
    width = max((len(label) for label, _ in facts.pairs), default=0)
    for label, cell in facts.pairs:
        _print_pair(console, label.ljust(width) if label else "", cell, _GAP)


def _print_pair(console: Console, label: str, cell: Cell, indent: int) -> None:
    """A label and its value, in one line if they fit."""
    shown = " " * indent + label + " " * _GAP
    if label and len(shown) + _width(cell) <= console.width:
        _print_line(console, _text(Cell(shown, DIM)), _text(cell))
        return
    if label:
        _print_line(console, _text(Cell(shown.rstrip(), DIM)))
    if cell.text:
        _print_words(console, cell, indent + _GAP)
    for line in cell.lines:
        _print_line(console, _text(Cell(" " * (indent + _GAP) + line, cell.style)))


def _print_table(console: Console, table: Table) -> None:
    """One table if it fits; otherwise the columns that do not are printed under their rows."""
    inline = _columns_that_fit(table, console.width)
    if not inline:
        _print_records(console, table)
        return
    below = [index for index in range(inline, len(table.columns)) if _has_text(table, index)]
    columns, widths = table.columns[:inline], _natural_widths(table)[:inline]
    titles = [Cell(column.title, HEADING) for column in columns]
    rule = "─" if console.encoding.startswith("utf") else "-"
    _print_row(console, titles, columns, widths)
    _print_row(console, [Cell(rule * width, DIM) for width in widths], columns, widths)
    labels = [table.columns[index].title for index in below]
    width = max(map(len, labels), default=0)
    for row in table.rows:
        _print_row(console, row[:inline], columns, widths)
        for label, index in zip(labels, below, strict=True):
            if row[index]:
                _print_pair(console, label.lower().ljust(width), row[index], _INDENT)


def _print_records(console: Console, table: Table) -> None:
    """Each row as its first cell, and title and text of the others."""
    titles = [column.title.lower() for column in table.columns]
    for row in table.rows:
        pairs = [pair for pair in zip(titles, row, strict=True) if pair[1]]
        first = 1 if row[0].text else 0
        _print_facts(console, Facts(row[0].text, tuple(pairs[first:])))


def _print_row(
    console: Console, cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]
) -> None:
    """One line of a table."""
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = _text(cell)
        (text.pad_left if column.right else text.pad_right)(width - len(text))
        parts += [text, _text(Cell(" " * _GAP))]
    _print_line(console, *parts[:-1])


def _print_words(console: Console, cell: Cell, indent: int) -> None:
    """On lines of its own, broken between words."""
    for line in wrapped(printable(cell.text), console.width, indent):
        _print_line(console, _text(Cell(line, cell.style)))


def _print_line(console: Console, *parts: Text) -> None:
    console.print(*parts, sep="", soft_wrap=True)


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """The lines of a text, broken between words; a longer word is left whole."""
    margin = " " * indent
    return textwrap.wrap(
        text,
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _text(cell: Cell) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as above

    text = "\n".join((cell.text, *cell.lines)).strip("\n") if cell.lines else cell.text
    return Text(text if text.isspace() else printable(text), cell.style)


def _width(cell: Cell) -> int:
    """Columns that it takes in one line; more than there are where it has several lines."""
    parts = [part for part in (cell.text, *cell.lines) if part]
    return len(printable("".join(parts))) if len(parts) < 2 else sys.maxsize


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
