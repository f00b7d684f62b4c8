"""The scripts in `cli/scripts/` are what the commands say, and bash completes with them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from cli.app import COMMANDS, GROUPS, app, main
from cli.completions import Shell, script
from tests.support.tools import PROJECT, loaded

FOLDER = PROJECT / "cli" / "scripts"
BASH = f"""\
source {FOLDER}/image-cri-shim.bash
compopt() {{ :; }}  # only there while readline completes
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_image_cri_shim
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module", name="maker")
def maker_module() -> ModuleType:
    return loaded("packaging/completions.py")


def completed(*words: str, cwd: Path | None = None) -> list[str]:
    """What bash offers for the last of the words after the program's name."""
    ran = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", "image-cri-shim", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    assert ran.stderr == ""
    return ran.stdout.split("\n")[:-1] if ran.stdout.strip() else []


@pytest.mark.parametrize("shell", Shell)
def test_scripts_are_up_to_date(maker: ModuleType, shell: Shell) -> None:
    """`make completions` would change nothing."""
    assert script(shell) == maker.script(shell)


def test_every_command_is_described(maker: ModuleType) -> None:
    """Each command has its name and a line of help."""
    described = {each.name: each.help for each in maker.commands(app, main)}
    assert {*COMMANDS, *GROUPS} <= set(described)
    assert all(described.values())


def test_bash_offers_commands(maker: ModuleType) -> None:
    """The first word is a command, with or without a file named before it."""
    every = [each.name for each in maker.commands(app, main) if each.name]
    assert completed("") == every
    assert completed("-f", "x.yaml", "") == every
    assert completed("--file", "=", "x.yaml", "") == every
    assert completed("check") == ["check-registry"]


def test_bash_offers_the_command_s_options() -> None:
    """Options are those of the command that stands before."""
    assert completed("--v") == ["--version"]
    assert completed("resolve", "--o") == ["--offline", "--output"]
    assert completed("-f", "serve", "resolve", "--off") == ["--offline"]
    assert completed("serve", "--d") == ["--dry-run"]


def test_bash_offers_values() -> None:
    """A value is one of those that the option takes, however it is spelled."""
    assert completed("resolve", "-o", "") == ["table", "json", "yaml"]
    assert completed("resolve", "nginx", "--output", "=", "j") == ["json"]
    assert completed("resolve", "nginx", "--output", "=") == ["table", "json", "yaml"]
    assert completed("completions", "z") == ["zsh"]


def test_bash_offers_files(tmp_path: Path) -> None:
    """A file's name may have spaces."""
    (tmp_path / "my shim.yaml").touch()
    assert completed("-f", "my", cwd=tmp_path) == ["my shim.yaml"]
    assert completed("serve", "--file", "my", cwd=tmp_path) == ["my shim.yaml"]


def test_bash_offers_what_is_below_a_group(tmp_path: Path) -> None:
    """Once: after that the options and files of the command that it is."""
    (tmp_path / "a b.yaml").touch()
    assert completed("config", "") == ["show", "check", "init", "schema"]
    assert completed("config", "check", "", cwd=tmp_path) == ["a b.yaml"]
    assert completed("config", "check", "-f", "a", cwd=tmp_path) == ["a b.yaml"]
    assert completed("config", "schema", "") == []
    assert completed("config", "show", "--o") == ["--output"]
    assert completed("config", "init", "--o") == []
    assert completed("-f", "x", "switch", "status", "-o", "j") == ["json"]


def test_bash_offers_commands_to_help() -> None:
    """`help` takes one."""
    assert completed("help", "st") == ["status"]


def test_bash_offers_nothing_for_an_image() -> None:
    """An image's name cannot be guessed."""
    assert completed("resolve", "ng") == []
