"""The command as a process: usage faults, interrupts, closed pipes, what help costs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli import exits
from tests.integration.cli_support import COMMAND, begun, run, run_on_terminal, write_config
from tests.support.polling import until
from tests.support.scripted_registry import ScriptedRegistry

HEAVY = ("grpc", "google", "httpx", "yaml", "rich", "tenacity", "hpack", "asyncio", "ssl")
IMPORTED = f"""
import sys
sys.argv = ["image-cri-shim", *sys.argv[1:]]
from cli.main import run
try:
    run()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_loads_little(option: str) -> None:
    """Help and version load nothing that takes long."""
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, option], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "[]\n")
    assert "image-cri-shim" in ran.stdout


async def test_alone_at_a_terminal_it_shows_help(tmp_path: Path) -> None:
    """A person gets help, at any width; a file named, or no terminal, means to serve."""
    ran = await run_on_terminal(40)
    assert ran.status == 0
    assert ran.plain.startswith("Usage: image-cri-shim")
    assert "Examples:" in ran.plain
    ran = await run_on_terminal(40, "-f", str(tmp_path / "none.yaml"))
    assert ran.status == 78
    ran = await run(environment={"IMAGE_CRI_SHIM_CONFIG": str(tmp_path / "none.yaml")})
    assert ran.status == 78


@pytest.mark.parametrize("columns", [40, 80, 120])
async def test_screens_cut_no_word(tmp_path: Path, columns: int) -> None:
    """The tables of commands have the same words at every width, and keep their labels."""
    config = write_config(tmp_path, address="http://127.0.0.1:9")
    for command in (["resolve", "--offline", "nginx"], ["config", "show"], ["check-registry"]):
        narrow = await run_on_terminal(columns, "-f", config, *command)
        plain = (await run("-f", config, *command)).out
        words = {word for word in plain.split() if word != "-" and not word.isupper()}
        missing = words - set(narrow.plain.split())
        assert {word for word in missing if not word.isdigit()} == set(), narrow.plain


async def test_which_configuration(tmp_path: Path) -> None:
    """The environment names the file; `-f` wins over it, and after the command over before."""
    async with ScriptedRegistry() as hub:
        config = write_config(tmp_path, address=hub.address)
        question = ["resolve", "--offline", "nginx"]
        assert (await run(*question, environment={"IMAGE_CRI_SHIM_CONFIG": config})).status == 0
        elsewhere = {"IMAGE_CRI_SHIM_CONFIG": "/nowhere"}
        assert (await run(*question, environment=elsewhere)).status == 1
        assert (await run("-f", config, *question, environment=elsewhere)).status == 0
        assert (await run("-f", "/nowhere", *question, "-f", config)).status == 0


async def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C while a registry is waited for: status 130, not a word."""
    async with ScriptedRegistry() as hub:
        hub.faults.hang = lambda request: True
        config = write_config(tmp_path, address=hub.address, probeTimeout="20s")
        async with begun(
            "-f",
            config,
            "check-registry",
            # A run in the background has it ignored, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            await until(lambda: hub.requests, "the registry is not asked")
            process.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_closed_pipe() -> None:
    """Nobody reads the output: no complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*COMMAND, "completions", "bash"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert ran.stderr == b""
    assert ran.returncode == 1


def test_full_disk() -> None:
    """Output that cannot be written: one line."""
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*COMMAND, "completions", "bash"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ran.returncode == 1
    assert ran.stderr == b"image-cri-shim: cannot write the output: No space left on device\n"


def test_ascii_terminal() -> None:
    """A locale without the characters of a text does not end the run."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(
        [*COMMAND, "resolve", "--bögus", "x"], capture_output=True, env=environment, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"image-cri-shim: no such option: --b")


def test_closed_streams(tmp_path: Path) -> None:
    """They lead nowhere: nothing else gets their numbers, and the status is what it is."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("addres: x\n")
    for closed, arguments, status in (
        ("<&- >&- 2>&-", ["version"], 0),
        ("<&- >&- 2>&-", ["-f", str(bad), "serve"], 78),
        ("2>/dev/full", ["-f", str(bad), "serve"], 78),
    ):
        line = f'exec "$@" {closed}'
        done = subprocess.run(["sh", "-c", line, "sh", *COMMAND, *arguments], check=False)
        assert done.returncode == status, closed


def test_an_error_has_journalds_priority(tmp_path: Path) -> None:
    """So that `journalctl -p warning` shows why a start failed (sd-daemon(3)).

    Where the journal reads it: what a unit's process starts inherits the variable.
    """
    bad = tmp_path / "bad.yaml"
    bad.write_text("addres: x\n")
    command = [*COMMAND, "-f", str(bad), "serve"]
    for name, starts in (("journal", "<3>image-cri-shim: "), ("other", "image-cri-shim: ")):
        with (tmp_path / name).open("wb+") as stderr:
            found = (tmp_path / "journal").stat()
            environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            subprocess.run(command, check=False, stderr=stderr, env=environment)
        assert (tmp_path / name).read_text().startswith(starts)


def test_an_error_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a registry says may be in it."""
    exits.say("denied: \x1b]0;owned\x07\x1b[2J\nnext")
    assert capsys.readouterr().err == "image-cri-shim: denied: \\x1b]0;owned\\x07\\x1b[2J next\n"
