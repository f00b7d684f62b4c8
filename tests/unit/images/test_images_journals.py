from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimcore.config.state import StateError
from shimcore.images import journals as journals_module
from shimcore.images.journal import Unfinished
from shimcore.images.journals import PROCESSES, Journals, OtherProcess, Serving, serving
from tests.support.polling import until

NGINX, AT_HUB = "docker.io/library/nginx:latest", "h:5000/library/nginx:latest"


async def held(folder: Path) -> Journals:
    journals = Journals(str(folder))
    await journals.hold()
    return journals


async def test_each_process_has_its_own(tmp_path: Path) -> None:
    """The second does not take the first one's running pulls for leftovers."""
    first, second = await held(tmp_path), await held(tmp_path)
    await first.own.began(NGINX, AT_HUB, 5.0)
    assert second.own.unfinished() == []
    assert await second.take_over() == []
    assert (tmp_path / "pulls.journal").exists()
    await first.close()
    assert [one.candidate for one in await second.take_over()] == [AT_HUB]
    assert not (tmp_path / "pulls.journal").exists()
    assert await second.take_over() == []


async def test_who_is_broken_off_while_it_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no lock that it was about to get: the next process has what is left."""
    first, second, third = [await held(tmp_path) for _ in range(3)]
    await first.own.began(NGINX, AT_HUB, 5.0)
    await first.close()
    lock, begun, go_on = journals_module._lock_of_left, threading.Event(), threading.Event()

    def slow(path: str) -> int | None:
        begun.set()
        go_on.wait(10)
        return lock(path)

    monkeypatch.setattr(journals_module, "_lock_of_left", slow)
    taking = asyncio.create_task(second.take_over())
    assert await asyncio.to_thread(begun.wait, 10)
    taking.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert [one.candidate for one in await third.take_over()] == [AT_HUB]


async def test_what_is_taken_over_while_more_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is handed out once."""
    before = await held(tmp_path)
    await before.own.began(NGINX, AT_HUB, 5.0)
    await before.close()
    journals, go_on = Journals(str(tmp_path)), asyncio.Event()
    load = journals.own.load

    async def slow(path: str) -> list[Unfinished]:
        found = await load(path)
        await go_on.wait()
        return found

    monkeypatch.setattr(journals.own, "load", slow)
    holding = asyncio.create_task(journals.hold())
    await until(journals.own.unfinished, "nothing is read")
    left = await journals.take_over()
    go_on.set()
    await holding
    left += await journals.take_over() + await journals.take_over()
    assert [one.candidate for one in left] == [AT_HUB]


async def test_a_start_alone_has_the_first_again(tmp_path: Path) -> None:
    """What an earlier version has left is where it looks for it, and is to be ended once."""
    before = await held(tmp_path)
    await before.own.began(NGINX, AT_HUB, 5.0)
    await before.close()
    after = await held(tmp_path)
    assert [one.candidate for one in await after.take_over()] == [AT_HUB]
    await after.hold()
    assert await after.take_over() == []


async def test_who_else_there_is(tmp_path: Path) -> None:
    """What a process says of itself, for as long as it lives."""
    first, second = await held(tmp_path), await held(tmp_path)
    assert await second.others() == [OtherProcess(0, "", 0)]
    await first.tell(OtherProcess(4711, "1.2.3", 1000))
    await first.tell(OtherProcess(4711, "1.2.3", 2))
    assert await second.others() == [OtherProcess(4711, "1.2.3", 2)]
    assert await first.others() == [OtherProcess(0, "", 0)]
    await first.close()
    assert await second.others() == []


async def test_where_a_process_serves(tmp_path: Path) -> None:
    """What the one that serves says of itself, and one that was killed did; not one that has handed
    over, nor what is damaged."""
    first, second = await held(tmp_path), await held(tmp_path)
    assert serving(str(tmp_path)) == []
    here = Serving("/etc/c.yaml", "/run/a.sock", "/run/a.sock.admin")
    await first.tell(here)
    assert serving(str(tmp_path)) == [here]
    await first.close()
    assert serving(str(tmp_path)) == [here]
    await second.tell(here)
    first = await held(tmp_path)
    await first.tell(OtherProcess(4711, "1.2.3", 2))
    assert serving(str(tmp_path)) == [here]
    assert await first.others() == [OtherProcess(0, "", 0)]
    (tmp_path / "pulls.journal.2.lock").write_bytes(b'{"file": 1}')
    assert serving(str(tmp_path)) == []
    assert serving(str(tmp_path / "none")) == []


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff" * 600, b'{"pid": "x"}', b"[" * 512])
async def test_a_damaged_note_is_a_process_without_a_name(tmp_path: Path, text: bytes) -> None:
    """It is there, and no more can be said."""
    _first, second = await held(tmp_path), await held(tmp_path)
    (tmp_path / "pulls.journal.lock").write_bytes(text)
    assert await second.others() == [OtherProcess(0, "", 0)]


async def test_a_disk_that_is_full_when_there_is_something_to_say(tmp_path: Path) -> None:
    """The room for it was taken with the lock, whatever a process before had there."""
    lock = tmp_path / "pulls.journal.lock"
    lock.write_bytes(b'{"pid": 1, "version": "1.0.0", "calls": 3}')
    first, second = await held(tmp_path), await held(tmp_path)
    assert lock.read_bytes() == b" " * 512
    await first.tell(OtherProcess(4711, "1.2.3", 1000))
    assert lock.stat().st_size == 512
    assert await second.others() == [OtherProcess(4711, "1.2.3", 1000)]


async def test_no_more_than_there_are(tmp_path: Path) -> None:
    """One too many keeps its journal in memory."""
    each = [await held(tmp_path) for _ in range(PROCESSES)]
    more = Journals(str(tmp_path))
    with pytest.raises(StateError, match="4 other processes have theirs"):
        await more.hold()
    await more.own.began(NGINX, AT_HUB, 5.0)
    assert len(await more.others()) == len(each)
    assert not list(tmp_path.glob("*.[0-9]"))


async def test_a_folder_that_cannot_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The shim works, and it is said once what that costs; its journal is there when it can be,
    with what was left there and what has begun meanwhile."""
    (tmp_path / "state").write_text("")
    journals = Journals(str(tmp_path / "state"))
    for _ in range(2):
        with pytest.raises(StateError, match=f"stateDir {tmp_path}/state: .*File exists"):
            await journals.hold()
    await journals.own.began(NGINX, AT_HUB, 5.0)
    assert caplog.text.count("may stay on an image") == 1
    assert await journals.others() == []
    assert await journals.take_over() == []
    (tmp_path / "state").unlink()
    (tmp_path / "state").mkdir()
    journal = tmp_path / "state" / "pulls.journal"
    journal.write_text('{"image": "a/b:1", "candidate": "h:5000/a/b:1", "at": 1}\n')
    await journals.hold()
    assert [one.candidate for one in await journals.take_over()] == ["h:5000/a/b:1"]
    assert AT_HUB in journal.read_text()
    assert "h:5000/a/b:1" in journal.read_text()


async def test_another_disk_is_mounted_there(tmp_path: Path) -> None:
    """Its lock is another: it is taken, with what is left there; what runs here is not left."""
    state = tmp_path / "state"
    journals = await held(state)
    await journals.own.began(NGINX, AT_HUB, 5.0)
    state.rename(tmp_path / "below")
    before = await held(state)
    await before.own.began("a/b:1", "h:5000/a/b:1", 5.0)
    await before.own.began(NGINX, AT_HUB, 5.0)
    await before.close()
    await journals.tell(OtherProcess(4711, "1.2.3", 2))
    await journals.hold()
    assert await before.others() == [OtherProcess(4711, "1.2.3", 2)]
    assert [one.candidate for one in await journals.take_over()] == ["h:5000/a/b:1"]
    await journals.own.ended("a/b:1", "h:5000/a/b:1")
    assert AT_HUB in (state / "pulls.journal").read_text()


async def test_no_file_can_be_made_beside_one_that_is_held(tmp_path: Path) -> None:
    """The held one is another process's: this one's pulls are kept in memory."""
    first = await held(tmp_path)
    await first.own.began(NGINX, AT_HUB, 5.0)
    (tmp_path / "pulls.journal.2.lock").mkdir()
    second = Journals(str(tmp_path))
    with pytest.raises(StateError, match="Is a directory"):
        await second.hold()
    assert second.own.unfinished() == []
    assert len(await second.others()) == 1
    await second.own.began(NGINX, "h:5000/other:1", 6.0)
    assert (tmp_path / "pulls.journal").read_text().count("\n") == 1


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk on which no lock file can be opened until this is set."""
    answers = threading.Event()
    opened = os.open

    def hanging(path: str, *rest: int) -> int:
        if str(path).endswith(".lock"):
            answers.wait(20)
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", hanging)
    monkeypatch.setattr(journals_module, "ANSWER_S", 0.1)
    yield answers
    answers.set()


async def test_a_disk_that_hangs_keeps_nobody_waiting(
    tmp_path: Path, hung: threading.Event
) -> None:
    """It is said, in time and however often it is asked; once it answers all is well."""
    journals = Journals(str(tmp_path))
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    loop = asyncio.ensure_future(turning())
    async with asyncio.timeout(5):
        for _ in range(3):
            for ask in (journals.hold, journals.others):
                with pytest.raises(StateError, match=f"stateDir {tmp_path} does not answer"):
                    await ask()
        await journals.tell(OtherProcess(4711, "1.2.3", 1))
        await journals.own.began(NGINX, AT_HUB, 5.0)
        await journals.close()
    loop.cancel()
    assert turns > 20
    hung.set()
    await journals.hold()
    assert await journals.others() == []
    assert AT_HUB in (tmp_path / "pulls.journal").read_text()
