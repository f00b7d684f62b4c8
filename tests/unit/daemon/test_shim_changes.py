"""Changes of the configuration: read beside the event loop, in force one after the other."""

from __future__ import annotations

import _thread
import asyncio
import errno
import json
import os
import threading
from base64 import b64decode
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from shimcore import threads
from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.cluster.starting import begin
from shimcore.config import Watcher
from shimcore.config.last_good import FILE_NAME
from shimcore.config.model import KubernetesSource
from shimcore.config.state import StateError
from shimcore.daemon import background, cluster
from shimcore.daemon.shim import Shim
from tests.support.polling import until


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"address: http://h.example\nstateDir: {tmp_path}/state\n"
        f"kubernetes: {{enabled: true}}\n{text}"
    )
    path.chmod(0o600)
    return path


def part(text: str) -> ClusterPart:
    source = KubernetesSource(enabled=True)
    return ClusterPart(source, {Kind.CONFIG_MAP: Document(text, "1")})


@pytest.fixture
async def shim(tmp_path: Path) -> AsyncIterator[Shim]:
    path = str(write(tmp_path, ""))
    made = Shim(path, begin(path), str(tmp_path / "none.sock"))
    yield made
    await made.generations.close(1)
    await made.runtime.aclose()


async def test_nothing_is_read_in_the_loops_thread(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the file, not the cluster's documents, and not the copy that is kept."""
    threads = set()
    for name in ("check", "reload", "put"):
        plain = getattr(Watcher, name)

        def noted(self: Watcher, *parts: ClusterPart, plain: object = plain) -> object:
            threads.add(threading.current_thread())
            assert callable(plain)
            return plain(self, *parts)

        monkeypatch.setattr(Watcher, name, noted)
    await shim.reload(forced=True)
    await shim.put_cluster(part("timeout: 5m"))
    assert shim.config.timeout_s == 300
    assert threads
    assert threading.current_thread() not in threads
    assert (tmp_path / "state" / FILE_NAME).exists()


async def test_a_change_goes_on_when_nobody_waits_for_it(shim: Shim, tmp_path: Path) -> None:
    """As when the follower of the cluster is ended in the middle: what was read is in force."""
    waiting = asyncio.create_task(shim.put_cluster(part("timeout: 5m")))
    await asyncio.sleep(0)
    waiting.cancel()
    write(tmp_path, "debug: true\n")
    await shim.reload(forced=False)  # or the other one has seen it already
    assert (shim.config.timeout_s, shim.config.debug) == (300, True)
    assert shim.cluster.part == part("timeout: 5m")


def no_thread() -> mock._patch[mock.MagicMock]:
    refused = RuntimeError("can't start new thread")
    return mock.patch.object(_thread, "start_new_thread", side_effect=refused)


async def test_a_moment_without_threads_costs_a_look(
    shim: Shim, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the task that looks, and not the change that it would have found."""
    write(tmp_path, "debug: true\n")
    asked = asyncio.Event()
    looking = asyncio.create_task(background.reload_on_change(shim, asked))
    with no_thread():
        asked.set()
        await asyncio.sleep(0.05)
        await shim.keep_good()
    assert "cannot be looked at: can't start new thread" in caplog.text
    assert not shim.config.debug
    assert not looking.done()
    await shim.reload(forced=False)
    looking.cancel()
    assert shim.config.debug


async def test_a_moment_without_memory_costs_a_look(
    shim: Shim, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the thread that looks, and in what is done in the loop."""
    monkeypatch.setattr(background, "_MEMORY_S", 0.01)
    write(tmp_path, "debug: true\n")
    asked = asyncio.Event()
    look = partial(background.reload_on_change, shim, asked)
    looking = asyncio.create_task(background.done_again(look))

    async def ask(line: str) -> None:
        said = caplog.text.count(line)
        asked.set()
        await until(lambda: caplog.text.count(line) > said, f"it does not say {line!r}")

    not_looked = "cannot be looked at: no memory is left"
    for place in (Watcher, "reload"), (Shim, "_put_in_force"):
        with mock.patch.object(*place, side_effect=MemoryError):
            await ask(not_looked)
            await ask(not_looked)
    with mock.patch.object(background, "notify", side_effect=MemoryError):
        for _ in range(2):
            await ask("no memory is left for what goes on in the background")
    assert caplog.text.count(not_looked) == 4
    asked.set()
    await until(lambda: shim.config.debug, "the change is not in force")
    assert not looking.done()
    looking.cancel()


@pytest.mark.parametrize("variable", ["NOTIFY_SOCKET", "LISTEN_PID", "SYSTEMD_EXEC_PID"])
async def test_the_service_takes_another_files_copy(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As systemd starts it; a file that was tried out had it."""
    copy = tmp_path / "state" / FILE_NAME
    copy.parent.mkdir(exist_ok=True)
    tried = {str(tmp_path): ""}
    copy.write_text(json.dumps({"source": str(tmp_path), "kept_at": 1, "files": tried}))
    monkeypatch.setenv(variable, str(os.getpid()))
    await shim.keep_good()
    assert json.loads(copy.read_text())["source"] == str(tmp_path / "c.yaml")


async def test_another_files_copy_stays(
    shim: Shim,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second configuration with the same stateDir is warned of, once."""
    for variable in ("NOTIFY_SOCKET", "LISTEN_PID", "SYSTEMD_EXEC_PID"):
        monkeypatch.delenv(variable, raising=False)
    await shim.keep_good()
    copy = tmp_path / "state" / FILE_NAME
    before = copy.read_bytes()
    other = tmp_path / "new.yaml"
    other.write_text((tmp_path / "c.yaml").read_text())
    second = Shim(str(other), begin(str(other)), str(tmp_path / "none.sock"))
    for _ in range(2):
        await second.reload(forced=False)
    await second.generations.close(1)
    await second.runtime.aclose()
    assert copy.read_bytes() == before
    [warning] = [record.getMessage() for record in caplog.records]
    assert f"set a stateDir of its own in {other}; a start with a bad file" in warning


async def test_a_disk_that_was_full(
    shim: Shim, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept when there is room again; until then each reason is said once."""
    for number in (errno.ENOSPC, errno.EROFS):
        with mock.patch.object(os, "fsync", side_effect=OSError(number, os.strerror(number))):
            for _ in range(3):
                await shim.reload(forced=False)
    first, second = (record.getMessage() for record in caplog.records)
    assert "the configuration cannot be kept: No space left on device; a start" in first
    assert "the configuration cannot be kept: Read-only file system; a start" in second
    await shim.reload(forced=False)
    assert (tmp_path / "state" / FILE_NAME).exists()


class Disk:
    """One that answers for no path with this in it, until it `goes_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
        self.goes_on = threading.Event()
        plain = os.open

        def opened(path: str, *arguments: int) -> int:
            if part in os.fspath(path):
                self.goes_on.wait(20)
            return plain(path, *arguments)

        monkeypatch.setattr(threads, "SILENT_S", 0.1)
        monkeypatch.setattr("shimcore.daemon.shim.SILENT_S", 0.1)
        monkeypatch.setattr(os, "open", opened)


async def test_a_login_that_does_not_answer(
    shim: Shim, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, with its name, and is a fault of the configuration until it answers; what
    comes meanwhile has its turn then."""
    caplog.set_level("INFO")
    password = tmp_path / "password"
    password.write_text("admin:x")
    password.chmod(0o600)
    write(tmp_path, f"hub: {{passwordFile: {password}}}\n")
    assert await shim.reload(forced=False)
    caplog.clear()
    disk = Disk(monkeypatch, "password")
    looks = [asyncio.create_task(shim.reload(forced=True)) for _ in range(2)]
    looks.append(asyncio.create_task(shim.put_cluster(part("timeout: 5m"))))
    await until(lambda: shim.config_fault, "it is not told")
    await asyncio.sleep(0.2)
    assert shim.config_fault == f"{password}: it does not answer"
    assert [record.getMessage() for record in caplog.records] == [
        f"{password}: it does not answer; the configuration in force stays"
    ]
    disk.goes_on.set()
    assert all(await asyncio.gather(*looks))
    assert shim.config_fault == ""
    assert "the configuration can be looked at again" in caplog.text
    assert shim.config.timeout_s == 300


async def test_a_state_dir_that_does_not_answer(
    shim: Shim, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and keeps no change out of force; the last one is kept when it answers."""
    disk = Disk(monkeypatch, "/state/")
    for minutes in (5, 6, 7):
        write(tmp_path, f"timeout: {minutes}m\n")
        assert await shim.reload(forced=False)
        assert shim.config.timeout_s == 60 * minutes
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings] == [
        f"{tmp_path}/state: it does not answer; a start with a bad file would have nothing else"
    ]
    disk.goes_on.set()

    def kept() -> str:
        copy = tmp_path / "state" / FILE_NAME
        tree = json.loads(copy.read_text()) if copy.exists() else {"files": {}}
        return b64decode(tree["files"].get(str(tmp_path / "c.yaml"), "")).decode()

    await until(lambda: "timeout: 7m" in kept(), "the last one is not kept")


async def test_one_after_the_other(shim: Shim) -> None:
    """The last one counts, however many come at once; each is in force for a moment."""
    before = shim.generation_number
    changes = [shim.put_cluster(part(f"timeout: {number}m")) for number in range(1, 21)]
    assert all(await asyncio.gather(*changes))
    assert shim.config.timeout_s == 20 * 60
    assert shim.generation_number == before + 20


async def test_a_bad_file_and_a_good_cluster(shim: Shim, tmp_path: Path) -> None:
    """The fault stays told until the file is mended; the cluster's part counts."""
    write(tmp_path, "adress: x\n")
    assert not await shim.reload(forced=False)
    assert "adress" in shim.config_fault
    assert await shim.put_cluster(part("timeout: 5m"))
    assert shim.config.timeout_s == 300
    assert "adress" in shim.config_fault
    write(tmp_path, "")
    assert await shim.reload(forced=False)
    assert shim.config_fault == ""


async def until_kept(shim: Shim, *, kept: bool) -> None:
    while bool(shim.bypass_fault) is kept:
        await asyncio.sleep(0.01)


async def test_a_folder_of_the_bypass_that_does_not_answer(
    shim: Shim, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told meanwhile."""
    go_on = threading.Event()
    monkeypatch.setenv("STATE_DIRECTORY", "/state")
    monkeypatch.setattr(background, "keep_link", lambda _: go_on.wait(20))
    monkeypatch.setattr(threads, "SILENT_S", 0.05)
    keeping = asyncio.ensure_future(background.keep_bypass(shim))
    async with asyncio.timeout(10):
        await until_kept(shim, kept=False)
        assert shim.unkept == caplog.messages
        assert shim.unkept[0].startswith("/state: it does not answer; if the shim does not start,")
        go_on.set()
        await until_kept(shim, kept=True)
    keeping.cancel()


async def test_the_bypass_is_kept_once_it_can_be(
    shim: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without another change: its link is written, or removed. Each fault is told once."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(background, "KEEP_AGAIN_S", 0.01)
    link, runtime = tmp_path / "bypass", shim.runtime_socket
    (tmp_path / "bypass.new").mkdir()
    keeping = asyncio.ensure_future(background.keep_bypass(shim))
    async with asyncio.timeout(10):
        await until_kept(shim, kept=False)
        await asyncio.sleep(0.1)
        (tmp_path / "bypass.new").rmdir()
        await until_kept(shim, kept=True)
    assert os.readlink(link) == runtime

    write(tmp_path, "fallback: deny\n")
    why = os.strerror(errno.EISDIR)
    async with asyncio.timeout(10):
        with monkeypatch.context() as patched:
            fails = mock.Mock(side_effect=IsADirectoryError(errno.EISDIR, why))
            patched.setattr(os, "unlink", fails)
            assert await shim.reload(forced=True)
            await until_kept(shim, kept=False)
            await asyncio.sleep(0.1)
        await until_kept(shim, kept=True)
    assert not os.path.lexists(link)
    keeping.cancel()
    why = f"{why}; if the shim does not start"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"{link}: it cannot lead to {runtime}: {why}, the bypass does not go there",
        f"{link}: it cannot be removed: {why}, the bypass still runs, against onFailure",
    ]


async def test_what_cannot_be_kept_is_told_until_it_is(shim: Shim, tmp_path: Path) -> None:
    """The configuration, the cluster's part and the journal, each with what it costs."""
    state = tmp_path / "state"
    state.write_text("")
    following = asyncio.ensure_future(cluster._keep(shim))
    assert await shim.put_cluster(part("timeout: 5m"))
    with pytest.raises(StateError):
        await shim.generations.journals.hold()
    async with asyncio.timeout(10):
        while not shim.cluster.keep_fault:
            await asyncio.sleep(0.01)
    wants = ("a bad file would have", "while the API server is away", "may stay on an image")
    assert len(shim.unkept) == len(wants)
    for fault, want in zip(shim.unkept, wants, strict=True):
        assert str(state) in fault
        assert want in fault
    state.unlink()
    assert await shim.put_cluster(part("timeout: 6m"))
    await shim.generations.journals.hold()
    async with asyncio.timeout(10):
        while shim.unkept:
            await asyncio.sleep(0.01)
    following.cancel()
