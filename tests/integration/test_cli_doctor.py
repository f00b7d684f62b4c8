"""`doctor` as a command, before a real shim."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.doctor import _COLUMNS
from cli.render import _lines, table_of
from shimcore.config.last_good import FILE_NAME
from shimcore.doctor.finding import failed
from tests.integration.cli_support import AUTH, USERS, run, run_on_terminal
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving

PAUSE = "127.0.0.1:9/pause:3.9"


@pytest.fixture
async def shim(tmp_path: Path) -> AsyncIterator[ServeProcess]:
    """One before a hub with a login that has what a node needs."""
    runtime = ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=RegistryPuller())
    async with runtime, ScriptedRegistry(users=USERS, auth="basic") as hub:
        hub.add_image("pause", "3.9")
        hub.add_image("library/web", "v1")
        async with serving(
            tmp_path, runtime.socket_path, address=hub.address, auth=AUTH, sandboxImage=PAUSE
        ) as process:
            yield process


async def test_all_is_well_and_a_pull_proves_it(shim: ServeProcess) -> None:
    """Status 0 with the fixed keys; the image comes through the shim."""
    ran = await run("-f", str(shim.file), "doctor", "--pull", "web:v1", "-o", "json")
    found = json.loads(ran.out)
    assert ran.status == 0, ran.out
    assert all(set(one) == {"check", "result", "detail", "mend"} for one in found)
    results = {one["check"]: one["result"] for one in found}
    assert results["socket"] == results["runtime"] == results["pull web:v1"] == "PASS"
    assert results["pause image"] == "PASS"


async def test_a_failure_is_status_1(shim: ServeProcess) -> None:
    """An image that no registry has: its pull fails, with what each registry said."""
    ran = await run("-f", str(shim.file), "doctor", "--pull", "127.0.0.1:9/none:v1")
    assert ran.status == 1
    (line,) = [line for line in ran.out.splitlines() if "pull 127.0.0.1:9/none:v1" in line]
    assert line.startswith("FAIL  pull 127.0.0.1:9/none:v1: ")
    after = ran.out.splitlines()[ran.out.splitlines().index(line) + 1]
    assert after.startswith("      mend: ")
    assert not any(line != line.rstrip() for line in ran.out.splitlines())


async def test_without_a_shim_or_a_file(tmp_path: Path) -> None:
    """What is missing is named; nothing ends in a traceback."""
    process = ServeProcess(tmp_path, tmp_path / "runtime.sock")
    down = await run("-f", str(process.file), "doctor")
    assert down.status == 1
    assert "nothing listens at" in down.out
    gone = await run("-f", str(tmp_path / "none.yaml"), "doctor", "-o", "yaml")
    assert gone.status == 1
    assert "or name the one that there is with -f FILE" in gone.out


async def test_a_relative_path(shim: ServeProcess) -> None:
    """A shim that began with one is not called another's, wherever doctor is typed."""
    await asyncio.to_thread(shim.stop)
    file, shim.file = shim.file, Path(shim.file.name)
    await asyncio.to_thread(shim.start)
    for named in (str(file), os.path.relpath(file)):
        ran = await run("-f", named, "doctor")
        assert "another file" not in ran.out
    copy = json.loads((shim.folder / "state" / FILE_NAME).read_text())
    assert str(file) in copy["files"]


@pytest.mark.parametrize("columns", [40, 80, 120])
async def test_screens(shim: ServeProcess, columns: int) -> None:
    """Every line of a narrow terminal fits it, but for a word that is longer."""
    shim.write_config(auth="admin:wrong")
    ran = await run_on_terminal(columns, "-f", str(shim.file), "doctor")
    print(ran.plain)
    assert ran.status == 1
    words = " ".join(ran.plain.split())
    assert "FAIL" in words
    assert "write the right login (auth: USER:PASSWORD); then systemctl reload" in words
    command = f"image-cri-shim install-service --now -f {shim.file}"
    lines = ran.plain.splitlines()
    assert any(command in line for line in lines), "no command is broken"
    rest = [line for line in lines if command not in line and "skopeo copy" not in line]
    long = [line for line in rest if len(line.rstrip()) > columns]
    assert all(len(line.split()) <= 2 for line in long), long


@pytest.mark.parametrize("columns", [40, 200])
def test_what_is_to_be_added_can_be_copied(columns: int) -> None:
    """Its lines are as they go into the file, whatever the width."""
    finding = failed("way", "somebody's", 'a file of "x"; add by hand\n[a]\n  b = "c"\n')
    laid_out = _lines([table_of(_COLUMNS, [finding])], columns, "-")
    lines = ["".join(cell.text for cell in line).strip() for line in laid_out]
    assert lines[-2:] == ["[a]", 'b = "c"']
    assert not any("x0a" in line for line in lines)
