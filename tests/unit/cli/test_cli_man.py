"""The manual pages of the packages: whole, and without a fault of form."""

from __future__ import annotations

import shutil
import subprocess
from types import ModuleType

import pytest
import typer

from cli.app import app
from shimcore.config.keys import TOP_KEYS, Kind
from tests.support.tools import loaded


@pytest.fixture(scope="module", name="man")
def man_module() -> ModuleType:
    return loaded("packaging/man.py")


def test_every_command_and_key_is_there(man: ModuleType) -> None:
    """One that is added needs nothing more to be in its page."""
    page, file = man.command_page(), man.file_page()
    commands = getattr(typer.main.get_command(app), "commands", {})
    shown = [name.replace("-", r"\-") for name, each in commands.items() if not each.hidden]
    assert [name for name in shown if f".SS {name}" not in page] == []
    keys = [key.name for key in TOP_KEYS if key.kind is not Kind.OLD]
    assert [name for name in keys if f".B {name}\n" not in file] == []


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not here")
def test_groff_has_nothing_to_say(man: ModuleType) -> None:
    """No warning of any kind, at a terminal's width."""
    for page in (man.command_page(), man.file_page()):
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", "-k"]
        done = subprocess.run(command, input=page, capture_output=True, text=True, check=True)
        assert done.stderr == ""
