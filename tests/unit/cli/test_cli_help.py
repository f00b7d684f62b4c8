"""Help pages: whole words at every width, examples that are command lines, no types of Python."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import typer

from cli.app import app
from cli.examples import EXAMPLES
from cli.exits import status_of

COMMAND = typer.main.get_command(app)
REDIRECTION = re.compile(r" > .*")


def paths() -> Iterator[str]:
    """Every command, as it is typed after the program's name."""
    yield ""
    below = getattr(COMMAND, "commands", {})
    for name, command in below.items():
        yield name
        yield from (f"{name} {inner}" for inner in getattr(command, "commands", {}))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a run prints that has nothing to complain of."""
    run = partial(app, args=list(arguments), prog_name="image-cri-shim", standalone_mode=False)
    assert status_of(run) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def page(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    return shown(capsys, *path.split(), "--help")


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("path", list(paths()))
def test_no_word_is_cut(
    path: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page has the same words at every width, and fits but for a word that is longer."""
    monkeypatch.setenv("COLUMNS", "1000")
    whole = page(path, capsys).split()
    monkeypatch.setenv("COLUMNS", str(columns))
    text = page(path, capsys)
    assert text.split() == whole
    _, _, after_usage = text.partition("\n\n")
    assert "..." not in after_usage
    assert "list[" not in text
    assert "<int" not in text
    before_examples = text.partition("\nExamples:")[0]
    for line in before_examples.splitlines():
        assert len(line) <= columns or len(line.split()) <= 2, line


@pytest.mark.parametrize("path", list(paths()))
def test_every_page_has_examples(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a command is for is seen at once."""
    assert f"Examples:\n  image-cri-shim {path}".rstrip() in page(path, capsys)


@pytest.mark.parametrize("line", sorted({line for lines in EXAMPLES.values() for line in lines}))
def test_examples_are_command_lines(line: str) -> None:
    """Each is understood; it is not carried out."""
    program, *words = shlex.split(REDIRECTION.sub("", line))
    assert program == "image-cri-shim"
    command: Any = COMMAND
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(program, words)


def test_help_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`help resolve` is `resolve --help`."""
    assert shown(capsys, "help", "config", "show") == page("config show", capsys)


def test_config_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, on standard output, and that is no fault."""
    assert shown(capsys, "config") == page("config", capsys)


def test_version_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same version as `--version` says, and what it runs on."""
    answer = json.loads(shown(capsys, "version", "-o", "json"))
    assert list(answer) == ["version", "python", "platform"]
    assert shown(capsys, "--version") == f"image-cri-shim {answer['version']}\n"
