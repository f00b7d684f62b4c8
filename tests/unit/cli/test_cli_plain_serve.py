"""`serve` alone is read without the library that reads all other command lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import _plain_serve


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", (None, True)),
        ("serve", (None, True)),
        ("-f a.yaml", ("a.yaml", True)),
        ("--file a.yaml serve", ("a.yaml", True)),
        ("--file=a.yaml", ("a.yaml", True)),
        ("serve -f b.yaml", ("b.yaml", True)),
        ("-f a.yaml serve -f b.yaml", ("b.yaml", True)),
        ("serve --dry-run", (None, False)),
        ("serve serve", (None, False)),
        ("-f", (None, False)),
        ("--help", (None, False)),
        ("-f a.yaml resolve nginx", (None, False)),
        ("serve --nonsense", (None, False)),
    ],
)
def test_what_is_a_plain_serve(line: str, expected: tuple[str | None, bool]) -> None:
    """Anything else goes to the full reader, with its help and its errors."""
    assert _plain_serve(line.split()) == expected


@pytest.mark.parametrize("arguments", [["-f", "none.yaml"], ["serve", "-f", "none.yaml"]])
def test_a_missing_file_is_one_line_and_78(arguments: list[str], tmp_path: Path) -> None:
    """The same words as everywhere, and no reader of command lines in memory."""
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print([m for m in ('typer', 'grpc') if m in sys.modules]))\n"
        "from cli.main import run\n"
        "run()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert ran.returncode == 78
    assert ran.stderr.count("\n") == 1
    assert "none.yaml: no such file; name the configuration with -f FILE" in ran.stderr
    assert ran.stdout == "[]\n"
