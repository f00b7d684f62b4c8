"""`pull` before it asks anyone: lists, names, and the names that kubelet would use."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cli.app import app
from cli.exits import status_of
from cli.pull_bars import PullBars
from shimcore.client.pull import State, Step, listed, wanted

DIGEST = "sha256:" + "a" * 64


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    status = status_of(
        lambda: app(args=list(arguments), prog_name="image-cri-shim", standalone_mode=False)
    )
    out, err = capsys.readouterr()
    return status, out, err.splitlines()


def test_a_list_has_an_image_a_line() -> None:
    """Empty lines and comments do not count, wherever they stand."""
    text = "# base\nnginx:1.27\n\n  redis  # cache\r\n\t\n#\nquay.io/a/b@" + DIGEST
    assert listed(text) == ["nginx:1.27", "redis", f"quay.io/a/b@{DIGEST}"]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("nginx", "nginx:latest"),
        ("nginx:latest", "nginx:latest"),
        ("nginx:1.27", "nginx:1.27"),
        ("localhost/latest", "localhost/latest:latest"),
        ("host:5000/x", "host:5000/x:latest"),
        (f"nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx:latest@{DIGEST}", f"nginx:latest@{DIGEST}"),
        ("docker.io/library/nginx:1", "docker.io/library/nginx:1"),
    ],
)
def test_names_as_kubelet_asks_for_them(written: str, asked: str) -> None:
    """A tag is added where neither tag nor digest is named; nothing else changes."""
    assert wanted([written]) == ([asked], [])


def test_each_image_once() -> None:
    """Two names of one image are one pull, under the first."""
    names, failures = wanted(["nginx", "redis:7", "docker.io/library/nginx:latest", "redis:7"])
    assert (names, failures) == (["nginx:latest", "redis:7"], [])


def test_what_is_no_name() -> None:
    """IDs and texts that are no names are failures, the others go on."""
    names, failures = wanted(["a b", "nginx", DIGEST, "Nginx", "a b"])
    assert names == ["nginx:latest"]
    assert [step.image for step in failures] == ["a b", DIGEST, "Nginx"]
    assert all(step.state is State.FAILED and step.error for step in failures)


def test_nothing_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an image and without a list: how to name one."""
    status, out, err = run(capsys, "pull")
    assert (status, out) == (2, "")
    assert len(err) == 1
    assert "name an image, or a list with --list FILE" in err[0]
    assert err[0].endswith("see image-cri-shim pull --help")


def test_list_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its name and why."""
    path = tmp_path / "none.txt"
    assert run(capsys, "pull", "--list", str(path)) == (
        1,
        "",
        [f"image-cri-shim: {path}: No such file or directory"],
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"# nothing\n\n", "lists no image; it takes one a line"),
        (b"\xff\xfe\x00", "is not a text in UTF-8"),
    ],
)
def test_list_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, why: str
) -> None:
    """A list without images, and a file that is no list, end it."""
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    status, out, err = run(capsys, "pull", "-l", str(path), "nginx")
    assert (status, out, err) == (1, "", [f"image-cri-shim: {path} {why}"])


def test_list_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` is standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO("Bad\n"))
    status, out, err = run(capsys, "pull", "--list", "-")
    assert (status, out) == (1, "")
    assert len(err) == 1
    assert "invalid image name 'Bad'" in err[0]


@pytest.mark.parametrize("jobs", ["0", "-1", "65", "many"])
def test_jobs_have_bounds(capsys: pytest.CaptureFixture[str], jobs: str) -> None:
    """1 to 64 at a time."""
    status, _, err = run(capsys, "pull", "--jobs", jobs, "nginx")
    assert status == 2
    assert len(err) == 1


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_end_as_lines() -> None:
    """What was pulled stays on the terminal as a line; names are not read as markup."""
    terminal = _Terminal()
    with PullBars(2, terminal, lines=True) as on_step:
        for image in ("a/[red]:1", "b:1"):
            on_step(Step(image, State.PULLING))
        on_step(Step("b:1", State.PULLED, 0.5, "sha256:b"))
        on_step(Step("a/[red]:1", State.PULLED, 61.0, "sha256:a"))
    assert "pulled b:1 in 500 ms" in terminal.getvalue()
    assert "pulled a/[red]:1 in 61.0 s" in terminal.getvalue()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_bars_show_what_comes_from_where(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers, bytes and registry, whole at every width; nothing is red while all is well."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _Terminal()
    step = Step(
        "nginx:latest", State.PULLING, 0.0, "", "", "sealos.hub:5000", 12_300_000, 98_000_000, 3, 5
    )
    with PullBars(1, terminal, lines=True) as on_step:
        on_step(step)
        on_step(replace(step, state=State.PULLED, elapsed_s=3.0))
    text = terminal.getvalue()
    assert "98.0 MB" in text
    assert not re.search(r"\x1b\[[0-9;]*(?:38;2;249;38;114|38;5;197|\b31)m", text)
    words = set(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[━╸╺]", " ", text).split())
    assert {"sealos.hub:5000", "nginx:latest", "3", "5", "layers,", "12.3", "13%"} <= words
