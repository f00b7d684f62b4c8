"""The command line: help, usage faults, configurations that cannot be used."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cli import exits
from cli.app import COMMANDS, GROUPS, app
from cli.exits import status_of
from shimcore import threads
from shimcore.config import files


@dataclass(frozen=True)
class Ran:
    """What a run came to."""

    status: int
    out: str
    err: str


Invoke = Callable[..., Ran]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs the command line in this process."""
    monkeypatch.delenv("IMAGE_CRI_SHIM_CONFIG", raising=False)

    def run(*arguments: str) -> Ran:
        status = status_of(
            lambda: app(args=list(arguments), prog_name="image-cri-shim", standalone_mode=False)
        )
        return Ran(status, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenPipeError(), ""),
        (OSError(errno.ENOSPC, "No space left"), "cannot write the output: No space left"),
    ],
)
def test_output_that_a_task_could_not_write(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task group's error is the one in it."""
    monkeypatch.setattr(exits, "_drop_output", lambda: None)

    def command() -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [error])])

    assert status_of(command) == 1
    assert capsys.readouterr().err == (f"image-cri-shim: {said}\n" if said else "")


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_has_help(invoke: Invoke, command: str) -> None:
    """Each command explains itself."""
    ran = invoke(command, "--help")
    assert ran.status == 0
    assert f"Usage: image-cri-shim {command}" in ran.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bogus"], "no such command 'bogus'; see image-cri-shim --help"),
        (["resolv"], "no such command 'resolv', did you mean 'resolve'? See image-cri-shim --help"),
        (["--bogus"], "no such option: --bogus; see image-cri-shim --help"),
        (["resolve"], "missing argument 'IMAGE...'; see image-cri-shim resolve --help"),
        (["demo", "--bogus"], "no such option: --bogus; see image-cri-shim demo --help"),
    ],
)
def test_usage_faults(invoke: Invoke, arguments: list[str], line: str) -> None:
    """What cannot be understood: one line, status 2."""
    ran = invoke(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines() == [f"image-cri-shim: {line}"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["resolve", "nginx"], 1), (["check-registry"], 1), (["serve", "--dry-run"], 78), ([], 78)],
)
def test_no_configuration(
    invoke: Invoke, arguments: list[str], status: int, tmp_path: Path
) -> None:
    """No configuration: one line that says how to have one; before the command as well as after."""
    missing = str(tmp_path / "none.yaml")
    for whole in (["-f", missing, *arguments], [*arguments, "--file", missing]):
        ran = invoke(*whole)
        assert (ran.status, ran.out) == (status, "")
        assert ran.err.splitlines() == [
            f"image-cri-shim: {missing}: no such file; name the configuration with -f FILE, "
            "or write one with install-service"
        ]


def test_unreadable_configuration(invoke: Invoke, tmp_path: Path) -> None:
    """A configuration that cannot be read: one line, status 1."""
    ran = invoke("-f", str(tmp_path), "resolve", "nginx")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [f"image-cri-shim: {tmp_path}: is a directory, not a file"]


def test_faulty_configuration(invoke: Invoke, tmp_path: Path) -> None:
    """Each fault of a configuration has its line."""
    config = tmp_path / "shim.yaml"
    config.write_text(yaml.safe_dump({"address": "", "bogus": 1}))
    ran = invoke("-f", str(config), "check-registry")
    assert ran.status == 1
    first, *pointing, second, third, fourth = ran.err.splitlines()
    assert [line.split(": ")[2] for line in (first, second)] == ["address", "bogus"]
    assert pointing == ["    1 | address:", "      | ^^^^^^^"]
    assert (third, fourth) == ("    2 | bogus:", "      | ^^^^^")


@pytest.mark.parametrize(
    "command",
    [
        ["resolve", "nginx"],
        ["check-registry"],
        ["serve", "--dry-run"],
        ["config", "check"],
        ["config", "show"],
    ],
)
def test_every_command_names_the_nearest_key(
    invoke: Invoke, command: list[str], tmp_path: Path
) -> None:
    """Whichever command loads the file, with its line and column."""
    config = tmp_path / "shim.yaml"
    config.write_text(f"address: h.example\nshim: {tmp_path}/s.sock\nprobTimeout: 1s\n")
    ran = invoke(*command, "-f", str(config))
    assert "probTimeout: unknown key; did you mean probeTimeout? (line 3, column 1)" in ran.err


def test_interrupt(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is status 130, and nothing is said."""

    def interrupted(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shimcore.config.load", interrupted)
    assert invoke("resolve", "nginx") == Ran(130, "", "")


def test_defect(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours is one line with its place, and no traceback."""

    def defective(path: str) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("shimcore.config.load", defective)
    ran = invoke("resolve", "nginx")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(
        "image-cri-shim: unexpected error, please report it: ZeroDivisionError: oh no (test_cli_"
    )
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["config", "check"], 78),
        (["serve", "--dry-run"], 78),
        (["check-registry"], 1),
        (["resolve", "--offline", "nginx"], 1),
    ],
)
def test_a_file_that_does_not_answer(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int
) -> None:
    """No command waits for it without a word, and for ever."""
    go_on, file, authority = threading.Event(), tmp_path / "c.yaml", tmp_path / "ca.pem"
    file.write_text(f"address: https://h\nhub: {{caFile: {authority}}}\nstateDir: {tmp_path}\n")
    read = files.read_file

    def silent(path: str) -> tuple[bytes, int]:
        if path != str(authority):
            return read(path)
        files._being_read.append(path)
        go_on.wait(20)
        files._being_read.remove(path)
        return b"", 0

    monkeypatch.setattr(files, "read_file", silent)
    monkeypatch.setattr(os.path, "lexists", lambda _: go_on.wait(20))
    monkeypatch.setattr(threads, "SILENT_S", 0.2)
    try:
        ran = invoke("-f", str(file), *words)
        assert not go_on.is_set()
    finally:
        go_on.set()
    assert (ran.status, ran.out) == (status, "")
    assert ran.err == f"image-cri-shim: {file}: {authority}: it does not answer\n"
