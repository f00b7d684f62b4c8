from __future__ import annotations

import _thread
import asyncio
import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shimcore import threads
from shimcore.images import journal as journal_module
from shimcore.images.journal import Journal, Unfinished
from tests.support.clock import YEAR_S, set_by

NGINX, AT_HUB = "docker.io/library/nginx:latest", "h:5000/library/nginx:latest"
_LEFT = "docker.io", "ghcr.io"


async def loaded(path: Path) -> Journal:
    journal = Journal(None)
    await journal.load(str(path))
    return journal


async def test_what_has_not_ended_is_known_to_the_next(tmp_path: Path) -> None:
    """With the time at which it began; what has ended is not."""
    path = tmp_path / "state" / "pulls.journal"
    journal = Journal(str(path))
    await journal.began(NGINX, AT_HUB, 5.5)
    await journal.began("a/b:1", "h:5000/a/b:1", 6.0)
    await journal.ended("a/b:1", "h:5000/a/b:1")
    assert (await loaded(path)).unfinished() == [Unfinished(NGINX, AT_HUB, 5.5)]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_older_pull_of_a_name_counts(tmp_path: Path) -> None:
    """A name that came after the first of them began came with one of them."""
    journal = Journal(str(tmp_path / "j"))
    await journal.began(NGINX, AT_HUB, 5.0)
    await journal.began(NGINX, AT_HUB, 9.0)
    assert journal.since(AT_HUB, 9.0) == 5.0
    assert journal.since("other", 9.0) == 9.0


async def test_images_that_are_pulled_as_one(tmp_path: Path) -> None:
    """Each is known until it has ended; a name that came with the older came with the other, too.
    An end is written as the version before reads it: it knows of one of those that are left."""
    path = tmp_path / "j"
    journal = Journal(str(path))
    images = "docker.io/a:1", "quay.io/a:1", "ghcr.io/a:1"
    for at, image in enumerate(images, 5):
        await journal.began(image, "h/a:1", at)
    assert (await loaded(path)).unfinished() == [Unfinished(image, "h/a:1", 5) for image in images]
    await journal.ended("quay.io/a:1", "h/a:1")
    end, *left = [json.loads(line) for line in path.read_text().splitlines()[3:]]
    assert end == {"candidate": "h/a:1"}
    told = [(line["image"], line["candidate"], line["at"]) for line in left]
    assert told == [(f"{domain}/a:1", "h/a:1", 5) for domain in _LEFT]
    unfinished = (await loaded(path)).unfinished()
    assert [one.image for one in unfinished] == ["docker.io/a:1", "ghcr.io/a:1"]


async def test_an_end_of_the_version_before_is_that_of_all(tmp_path: Path) -> None:
    """It has named one image alone; those that are written after it are left."""
    path = tmp_path / "j"
    began = [{"image": f"{domain}/a:1", "candidate": "h/a:1", "at": 5} for domain in _LEFT]
    lines = [*began, {"candidate": "h/a:1"}, began[0]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (await loaded(path)).unfinished() == [Unfinished("docker.io/a:1", "h/a:1", 5)]


async def test_what_somebody_asked_for_is_older(tmp_path: Path) -> None:
    """Than the unfinished pulls of its repository, for the next process too; not those of others,
    nor one that has ended meanwhile."""
    path = tmp_path / "j"
    journal = Journal(str(path))
    others = "h:5000/library/nginx-x:1", "h:5000/library:1", "h:5000/library/nginx/x:1"
    by_digest = f"h:5000/library/nginx@sha256:{'a' * 64}"
    for candidate in (AT_HUB, by_digest, "h:5000/library/nginx:2", *others):
        await journal.began(NGINX, candidate, 5.0)
    spared = journal.spare("h:5000/library/nginx")
    await journal.ended(NGINX, "h:5000/library/nginx:2")
    await journal.note(spared)
    since = {one.candidate: one.at for one in (await loaded(path)).unfinished()}
    assert {candidate for candidate, at in since.items() if at > time.time() - 60} == {
        AT_HUB,
        by_digest,
    }
    assert since.keys() == {AT_HUB, by_digest, *others}
    assert {candidate: journal.since(candidate, float("inf")) for candidate in since} == since


async def test_it_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew, with what is under way alone, before it is large."""
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 2000)
    path = tmp_path / "j"
    journal = Journal(str(path))
    await journal.began(NGINX, AT_HUB, 1.0)
    for number in range(200):
        await journal.began(f"a/{number}", f"h/{number}", 2.0)
        await journal.ended(f"a/{number}", f"h/{number}")
        assert path.stat().st_size <= 2000
    assert (await loaded(path)).unfinished() == [Unfinished(NGINX, AT_HUB, 1.0)]


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\n{", b"[]\n3\nnull\n", b'{"candidate": "x", "image": "y", "at": "z"}\n', b"{}" * 9],
)
async def test_damage_is_nothing(content: bytes, tmp_path: Path) -> None:
    """A journal that cannot be read keeps no shim from starting."""
    path = tmp_path / "j"
    path.write_bytes(content)
    assert (await loaded(path)).unfinished() == []


async def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    """The lines before it count."""
    path = tmp_path / "j"
    path.write_text(f'{{"image": "{NGINX}", "candidate": "{AT_HUB}", "at": 5}}\n{{"image": "do')
    assert (await loaded(path)).unfinished() == [Unfinished(NGINX, AT_HUB, 5.0)]


async def test_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the pulls go on."""
    target = tmp_path / "target"
    target.write_text("mine\n")
    path = tmp_path / "j"
    path.symlink_to(target)
    journal = await loaded(path)
    await journal.began(NGINX, AT_HUB, 1.0)
    await journal.ended(NGINX, AT_HUB)
    assert target.read_text() == "mine\n"
    assert len(caplog.records) == 1


async def test_without_a_thread_pulls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; what could not be written is, when a thread can be had."""
    path = tmp_path / "j"
    journal = Journal(str(path))
    refused = RuntimeError("can't start new thread")
    with mock.patch.object(_thread, "start_new_thread", side_effect=refused):
        await journal.began(NGINX, AT_HUB, 1.0)
        await journal.began("a/b:1", "h:5000/a/b:1", 1.0)
    assert [record.getMessage().split("; ")[0] for record in caplog.records] == [
        f"{path}: can't start new thread"
    ]
    await journal.ended("a/b:1", "h:5000/a/b:1")
    assert (await loaded(path)).unfinished() == [Unfinished(NGINX, AT_HUB, 1.0)]


async def test_a_disk_that_takes_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once; what nobody waits for any more is written, each line in its turn."""
    monkeypatch.setattr(threads, "SILENT_S", 0.05)
    path, go_on, put = tmp_path / "j", threading.Event(), journal_module._put

    def slow(*arguments: Any) -> None:
        go_on.wait(10)
        put(*arguments)

    monkeypatch.setattr(journal_module, "_put", slow)
    journal = Journal(str(path))
    begun = [asyncio.create_task(journal.began(f"a/{n}", f"h/{n}", 1.0)) for n in range(3)]
    await asyncio.sleep(0.2)
    begun[0].cancel()
    begun[1].cancel()
    await asyncio.sleep(0)
    go_on.set()
    await begun[2]
    said = "it does not answer; after a crash of the shim a registry's name may stay on an image"
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {said}"]
    assert [one.image for one in (await loaded(path)).unfinished()] == ["a/0", "a/1", "a/2"]


@pytest.mark.parametrize("seconds", [YEAR_S, -YEAR_S])
async def test_a_clock_that_is_set(seconds: float, tmp_path: Path) -> None:
    """A pull began when it did: of this process, of one that was killed, and taken over; also when
    it was written anew, and another image is pulled as the same."""
    path, began = tmp_path / "left", time.time()
    journal, own = Journal(str(path)), Journal(str(tmp_path / "own"))
    await journal.began(NGINX, AT_HUB, began)
    with set_by(seconds):
        then = pytest.approx(began + seconds, abs=0.5)
        assert journal.since(AT_HUB, float("inf")) == then
        killed = await loaded(path)
        assert killed.since(AT_HUB, float("inf")) == then
        await killed.began("quay.io/nginx:latest", AT_HUB, float("inf"))
        assert [one.since for one in (await loaded(path)).unfinished()] == [then, then]
        await own.take_over(str(path))
        assert own.since(AT_HUB, float("inf")) == then
    assert own.since(AT_HUB, float("inf")) == pytest.approx(began, abs=0.5)


@pytest.mark.parametrize("boot", [{}, {"boot": "another", "ahead": 1.0}, {"ahead": 1.0}])
async def test_a_line_of_another_boot(boot: dict[str, object], tmp_path: Path) -> None:
    """Or of a version that writes none: its time is as it stands, also when it is written anew."""
    path = tmp_path / "j"
    path.write_text(json.dumps({"image": NGINX, "candidate": AT_HUB, "at": 5, **boot}) + "\n")
    for _ in range(2):
        journal = await loaded(path)
        assert journal.since(AT_HUB, 9.0) == 5.0
        await journal.began("late:1", "h/late:1", 2.0)


async def test_a_version_that_knows_of_no_boot_reads_it(tmp_path: Path) -> None:
    """What it needs is in each line."""
    path = tmp_path / "j"
    await Journal(str(path)).began(NGINX, AT_HUB, 5.0)
    line = json.loads(path.read_text())
    assert line.items() >= {"image": NGINX, "candidate": AT_HUB, "at": 5.0}.items()
    assert line.keys() == {"image", "candidate", "at", "ahead", "boot"}


async def test_a_fifo_does_not_hold_anything_up(tmp_path: Path) -> None:
    """Neither the start nor a pull."""
    path = tmp_path / "j"
    os.mkfifo(path)
    journal = await loaded(path)
    await journal.began(NGINX, AT_HUB, 1.0)
    assert journal.since(AT_HUB, 2.0) == 1.0


async def test_what_another_process_has_left_is_taken_over(tmp_path: Path) -> None:
    """Its file goes, the older pull of a name counts, and what is known already stays."""
    left = Journal(str(tmp_path / "left"))
    await left.began(NGINX, AT_HUB, 3.0)
    await left.began("a/b:1", "h:5000/a/b:1", 9.0)
    await left.began("c:1", "h:5000/c:1", 1.0)
    await left.ended("c:1", "h:5000/c:1")
    journal = Journal(str(tmp_path / "own"))
    await journal.began(NGINX, AT_HUB, 5.0)
    await journal.began("a/b:1", "h:5000/a/b:1", 6.0)
    wanted = [Unfinished(NGINX, AT_HUB, 3.0), Unfinished("a/b:1", "h:5000/a/b:1", 6.0)]
    assert await journal.take_over(str(tmp_path / "left")) == wanted
    assert not (tmp_path / "left").exists()
    assert (await loaded(tmp_path / "own")).unfinished() == wanted
    assert await journal.take_over(str(tmp_path / "left")) == []


class Disk:
    """A disk that takes so many bytes and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr("shimcore.images.journal.os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        taken = min(len(data), self.room)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= taken
        return self._write(descriptor, data[:taken])


async def test_a_line_that_the_disk_takes_half_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told each time that it begins; the next change that can be written has all of them."""
    path = tmp_path / "j"
    journal = Journal(str(path))
    disk = Disk(monkeypatch, 200)
    for _ in range(2):
        await journal.began(NGINX, AT_HUB, 1.0)
        disk.room = 20
        await journal.began("late:1", "h/late:1", 2.0)
        disk.room = 1000
        await journal.ended(NGINX, AT_HUB)
        assert (await loaded(path)).unfinished() == [Unfinished("late:1", "h/late:1", 2.0)]
        await journal.ended("late:1", "h/late:1")
    assert caplog.text.count("No space left on device") == 2


async def test_a_journal_that_cannot_be_written_anew_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is older, and whole."""
    path = tmp_path / "j"
    await Journal(str(path)).began(NGINX, AT_HUB, 1.0)
    journal = await loaded(path)
    Disk(monkeypatch, 20)
    await journal.began("late:1", "h/late:1", 2.0)
    assert (await loaded(path)).unfinished() == [Unfinished(NGINX, AT_HUB, 1.0)]
