"""What people and programs are shown."""

from __future__ import annotations

import io
import json
import re

import pytest
import yaml

from cli import render
from cli.options import Output
from cli.render import BAD, GOOD, Block, Cell, Column, Facts, Table

LONG = "registry.example:5000/team/project/component/with/a/deep/path/service:v1.2.3-rc.1.build.20"
WHY = "https://registry.example:5000 refused the connection; is the registry running on that port?"
TABLE = Table(
    (
        Column("REGISTRY"),
        Column("TIME", right=True),
        Column("NAME", below=True),
        Column("WHY", below=True),
    ),
    (
        (
            Cell("sealos.hub:5000", GOOD),
            Cell("4 ms"),
            Cell("sealos.hub:5000/library/nginx"),
            Cell(""),
        ),
        (Cell("registry.example:5000", BAD), Cell("3.0 s"), Cell(LONG), Cell(WHY)),
    ),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def piped(*blocks: Block) -> str:
    stream = io.StringIO()
    render.print_blocks(blocks, stream)
    return stream.getvalue()


@pytest.fixture(params=[40, 60, 80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return int(request.param)


def on_terminal(*blocks: Block) -> str:
    stream = Terminal()
    render.print_blocks(blocks, stream)
    return stream.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_pipe_has_a_line_for_each_row() -> None:
    """In a pipe a row is one line, aligned, whole and without colour."""
    header, first, second = piped(TABLE).splitlines()
    assert "\x1b" not in header + first + second
    assert header.index("NAME") == first.index("sealos.hub:5000/") == second.index(LONG)
    assert first.split() == ["sealos.hub:5000", "4", "ms", "sealos.hub:5000/library/nginx", "-"]
    assert second.endswith(WHY)


def test_terminal_keeps_names_whole(columns: int) -> None:
    """On a terminal nothing is cut off: a name that is longer than a line stays in one piece."""
    text = on_terminal(TABLE)
    assert LONG in text
    assert "…" not in text
    assert "\x1b[1;31m" in text
    assert " ".join(WHY.split()) in " ".join(text.split())


def test_columns_go_below_only_when_they_must(columns: int) -> None:
    """With room, a name stands in its row; without, in the next line."""
    header = on_terminal(TABLE).splitlines()[0]
    assert ("NAME" in header) == (columns == 200)
    assert "WHY" not in header


def test_rows_keep_their_labels(columns: int) -> None:
    """What leaves its row, or has no row at all, has its title before it."""
    wide = Table(
        (Column("ADDRESS"), Column("OK"), Column("WHY", below=True)),
        ((Cell("h" * 50), Cell("no"), Cell(WHY)),),
    )
    text = plain(on_terminal(wide))
    assert columns == 200 or re.search(r"^ +why\b", text, re.MULTILINE)
    assert columns > 54 or re.search(r"^ +ok +no$", text, re.MULTILINE)
    assert re.search(r"^ +name\b", plain(on_terminal(TABLE)), re.MULTILINE) or columns == 200


def test_lines_break_between_words(columns: int) -> None:
    """Every word is whole, also one that is longer than a line, and in headings."""
    sentence = f"an image of {LONG} that cannot-be-broken-at-a-hyphen goes on in the next line"
    blocks = Facts(sentence, (("why", Cell(sentence)),)), TABLE
    words = set(plain(on_terminal(*blocks)).split())
    assert {*sentence.split(), *WHY.split(), LONG, "sealos.hub:5000"} <= words


def test_lines_fit(columns: int) -> None:
    """No line but that of a single long word is wider than the terminal."""
    facts = Facts("nginx", (("pulled as", Cell("a/b:c")), ("why", Cell("word " * 60))))
    for line in plain(on_terminal(facts, TABLE)).splitlines():
        assert len(line) <= columns or line.strip() == LONG


def test_first_column_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address longer than the terminal is folded, and what must stay in the row does."""
    monkeypatch.setenv("COLUMNS", "40")
    table = Table((Column("REGISTRY"), Column("OK")), ((Cell("h" * 60), Cell("FAIL")),))
    text = on_terminal(table)
    assert text.count("h") == 60
    assert "FAIL" in text


def test_control_characters_are_escaped(columns: int) -> None:
    """What a registry sends cannot steer the terminal."""
    evil = Facts("x", (("issuer", Cell("\x1b]0;owned\x07\nnext")),))
    for text in (piped(evil), on_terminal(evil)):
        assert "\x1b]" not in text
        assert "\\x1b]0;owned\\x07\\x0anext" in text


@pytest.mark.parametrize("output", [Output.JSON, Output.YAML])
def test_programs_get_the_value(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and YAML say the same, in the same order of keys, however long a text is."""
    value = [{"z": LONG * 3, "a": None, "m": 1.5}]

    def never() -> list[Block]:
        raise AssertionError

    render.show(output, value, never)
    text = capsys.readouterr().out
    read = json.loads(text) if output is Output.JSON else yaml.safe_load(text)
    assert read == value
    assert list(read[0]) == ["z", "a", "m"]
    assert LONG * 3 in text


@pytest.mark.parametrize(
    ("elapsed_ms", "text"), [(0.04, "0 ms"), (12.6, "13 ms"), (999.0, "999 ms"), (3020.0, "3.0 s")]
)
def test_durations(elapsed_ms: float, text: str) -> None:
    """Times are short."""
    assert render.duration(elapsed_ms) == text
