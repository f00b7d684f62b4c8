"""`serve` with a file that cannot be used: what was good last serves, and everybody is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shimcore.config.last_good import FILE_NAME
from shimcore.runtime.client import RuntimeClient
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, wait_for

PASSWORD = "pa55-w0rd-zx81"


@pytest.fixture
async def shim(tmp_path: Path, runtime: ScriptedRuntime) -> AsyncIterator[ServeProcess]:
    """One that was started and stopped again, with a login in a file of its own."""
    (tmp_path / "pass").write_text(f"admin:{PASSWORD}\n")
    (tmp_path / "pass").chmod(0o600)
    hub = {"passwordFile": str(tmp_path / "pass")}
    process = ServeProcess(tmp_path, runtime.socket_path, hub=hub, reloadInterval="100ms")
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(wait_for, _kept(process).exists, 10, lambda: process.log)
    assert await asyncio.to_thread(process.stop) == 0
    yield process
    process.kill()


def _kept(shim: ServeProcess) -> Path:
    return shim.folder / "state" / FILE_NAME


async def _config_state(shim: ServeProcess) -> tuple[int, dict[str, Any]]:
    done = await shim.run_command("status", "-o", "json")
    assert PASSWORD not in done.stdout + done.stderr
    state: dict[str, Any] = json.loads(done.stdout)["config"]
    return done.returncode, state


def _broken(shim: ServeProcess, how: str) -> None:
    good = shim.file.read_text()
    if how == "typo":
        shim.write_text(f"adress: oops\n{good}")
    elif how == "no yaml":
        shim.write_text(f"{good}\n\t: [{PASSWORD}\n")
    elif how == "no file":
        shim.file.unlink()
    elif how == "fifo":
        shim.file.unlink()
        os.mkfifo(shim.file)
    elif how == "password file":
        (shim.folder / "pass").unlink()


@pytest.mark.parametrize("how", ["typo", "no yaml", "password file"])
async def test_a_bad_file_at_the_start(shim: ServeProcess, how: str) -> None:
    """The attack: a typo and a reboot. The node has a runtime; the fault is told until mended."""
    assert _kept(shim).stat().st_mode & 0o777 == 0o600
    good = shim.file.read_text()
    _broken(shim, how)
    await asyncio.to_thread(shim.start)
    assert "the last good configuration, kept at 20" in shim.log
    assert "WARNING" in shim.log
    assert PASSWORD not in shim.log
    client = RuntimeClient(shim.socket)
    assert await client.version(5)
    await client.aclose()
    status, state = await _config_state(shim)
    assert status == 1
    assert state["valid"] is False
    assert state["error"]
    shown = await shim.run_command("config", "show", "-o", "json")
    assert "passwordFile" in shown.stdout
    for words in (["serve", "--dry-run"], ["config", "check"]):
        assert (await shim.run_command(*words)).returncode == 78

    shim.signal(signal.SIGHUP)  # still bad: nothing changes
    (shim.folder / "pass").write_text(f"admin:{PASSWORD}\n")
    (shim.folder / "pass").chmod(0o600)
    shim.write_text(good + "timeout: 7m\n")
    await asyncio.to_thread(shim.wait_log, "configuration reloaded from")
    _, state = await _config_state(shim)
    assert (state["valid"], state["error"]) == (True, None)
    assert await asyncio.to_thread(shim.stop) == 0


@pytest.mark.parametrize("how", ["no file", "fifo"])
async def test_a_file_that_is_not_there(tmp_path: Path, shim: ServeProcess, how: str) -> None:
    """Its stateDir cannot be known then: without a copy in the default folder, status 78."""
    _broken(shim, how)
    await asyncio.to_thread(shim.start, wait=False)
    assert await asyncio.to_thread(shim.wait) == 78
    assert ("no such file" if how == "no file" else "not a regular file") in shim.log


async def test_without_a_copy(shim: ServeProcess) -> None:
    """Exit status 78, and the fault; a spoiled copy is none, and is said as well."""
    _broken(shim, "typo")
    for content in (None, "{", json.dumps({"source": str(shim.file), "files": {}, "kept_at": 1})):
        _kept(shim).unlink()
        if content is not None:
            _kept(shim).write_text(content)
        await asyncio.to_thread(shim.start, wait=False)
        assert await asyncio.to_thread(shim.wait) == 78
        assert "adress: unknown key" in shim.log
        assert ("not a copy that was kept here" in shim.log) == (content is not None)
        _kept(shim).touch()


async def test_a_fifo_under_a_running_shim(shim: ServeProcess) -> None:
    """The attack: every call and SIGTERM stood still. It is a fault of the file, and no more."""
    await asyncio.to_thread(shim.start)
    _broken(shim, "fifo")
    await asyncio.to_thread(shim.wait_log, "not a regular file")
    client = RuntimeClient(shim.socket)
    assert await client.version(5)
    await client.aclose()
    assert await asyncio.to_thread(shim.stop) == 0


async def test_a_changed_configuration_is_kept(shim: ServeProcess) -> None:
    """Whenever one comes into force; one that cannot be used is not."""
    await asyncio.to_thread(shim.start)
    before = _kept(shim).read_bytes()
    shim.write_text("adress: x\n")
    await asyncio.to_thread(shim.wait_log, "adress: unknown key")
    assert _kept(shim).read_bytes() == before
    shim.write_config(timeout="7m")
    await asyncio.to_thread(shim.wait_log, "configuration reloaded from")
    changed = lambda: _kept(shim).read_bytes() != before  # noqa: E731
    await asyncio.to_thread(wait_for, changed, 10, lambda: shim.log)


async def test_a_folder_that_cannot_be_written(tmp_path: Path, runtime: ScriptedRuntime) -> None:
    """A warning, once for each configuration; the shim serves."""
    (tmp_path / "state").write_text("in the way")
    shim = ServeProcess(tmp_path, runtime.socket_path)
    try:
        await asyncio.to_thread(shim.start)
        await asyncio.to_thread(shim.wait_log, "the configuration cannot be kept")
        assert await asyncio.to_thread(shim.stop) == 0
    finally:
        shim.kill()
