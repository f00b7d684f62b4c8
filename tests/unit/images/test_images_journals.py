from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.images.journals import PROCESSES, Journals, OtherProcess, Serving, serving

NGINX, AT_HUB = "docker.io/library/nginx:latest", "h:5000/library/nginx:latest"


async def test_each_process_has_its_own(tmp_path: Path) -> None:
    """The second does not take the first one's running pulls for leftovers."""
    first, second = Journals(str(tmp_path)), Journals(str(tmp_path))
    await first.own.began(NGINX, AT_HUB, 5.0)
    second.own.load()
    assert second.own.unfinished() == []
    assert await second.take_over() == []
    assert (tmp_path / "pulls.journal").exists()
    first.close()
    assert [one.candidate for one in await second.take_over()] == [AT_HUB]
    assert not (tmp_path / "pulls.journal").exists()
    assert await second.take_over() == []


async def test_a_start_alone_has_the_first_again(tmp_path: Path) -> None:
    """What an earlier version has left is where it looks for it."""
    before = Journals(str(tmp_path))
    await before.own.began(NGINX, AT_HUB, 5.0)
    before.close()
    after = Journals(str(tmp_path))
    after.own.load()
    assert [one.candidate for one in after.own.unfinished()] == [AT_HUB]


def test_who_else_there_is(tmp_path: Path) -> None:
    """What a process says of itself, for as long as it lives."""
    first, second = Journals(str(tmp_path)), Journals(str(tmp_path))
    assert second.others() == [OtherProcess(0, "", 0)]
    first.tell(OtherProcess(4711, "1.2.3", 1000))
    first.tell(OtherProcess(4711, "1.2.3", 2))
    assert second.others() == [OtherProcess(4711, "1.2.3", 2)]
    assert first.others() == [OtherProcess(0, "", 0)]
    first.close()
    assert second.others() == []


def test_where_a_process_serves(tmp_path: Path) -> None:
    """What the one that serves says of itself, and one that was killed did; not one that has handed
    over, nor what is damaged."""
    first, second = Journals(str(tmp_path)), Journals(str(tmp_path))
    assert serving(str(tmp_path)) == []
    here = Serving("/etc/c.yaml", "/run/a.sock", "/run/a.sock.admin")
    first.tell(here)
    assert serving(str(tmp_path)) == [here]
    first.close()
    assert serving(str(tmp_path)) == [here]
    second.tell(here)
    first = Journals(str(tmp_path))
    first.tell(OtherProcess(4711, "1.2.3", 2))
    assert serving(str(tmp_path)) == [here]
    assert first.others() == [OtherProcess(0, "", 0)]
    (tmp_path / "pulls.journal.2.lock").write_bytes(b'{"file": 1}')
    assert serving(str(tmp_path)) == []
    assert serving(str(tmp_path / "none")) == []


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff" * 600, b'{"pid": "x"}', b"[" * 512])
def test_a_damaged_note_is_a_process_without_a_name(tmp_path: Path, text: bytes) -> None:
    """It is there, and no more can be said."""
    first, second = Journals(str(tmp_path)), Journals(str(tmp_path))
    (tmp_path / "pulls.journal.lock").write_bytes(text)
    assert second.others() == [OtherProcess(0, "", 0)]
    first.close()


async def test_no_more_than_there_are(tmp_path: Path) -> None:
    """One too many keeps its journal in memory."""
    held = [Journals(str(tmp_path)) for _ in range(PROCESSES)]
    more = Journals(str(tmp_path))
    await more.own.began(NGINX, AT_HUB, 5.0)
    assert len(more.others()) == PROCESSES
    assert not list(tmp_path.glob("*.[0-9]"))
    for each in held:
        each.close()


async def test_a_folder_that_cannot_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The shim works, and the journal says what that costs."""
    (tmp_path / "file").write_text("")
    journals = Journals(str(tmp_path / "file"))
    await journals.own.began(NGINX, AT_HUB, 5.0)
    assert "may stay on an image" in caplog.text
    assert journals.others() == []
    assert await journals.take_over() == []


async def test_no_file_can_be_made_beside_one_that_is_held(tmp_path: Path) -> None:
    """The held one is another process's: this one's pulls are kept in memory."""
    first = Journals(str(tmp_path))
    await first.own.began(NGINX, AT_HUB, 5.0)
    (tmp_path / "pulls.journal.2.lock").mkdir()
    second = Journals(str(tmp_path))
    second.own.load()
    assert second.own.unfinished() == []
    assert len(second.others()) == 1
    await second.own.began(NGINX, "h:5000/other:1", 6.0)
    assert (tmp_path / "pulls.journal").read_text().count("\n") == 1
