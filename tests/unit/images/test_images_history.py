"""The memory of image calls: its bounds, and what is told once."""

from __future__ import annotations

from shimcore.images.attempts import Attempt, Result
from shimcore.images.history import HOSTS, PAUSE, Ending, History, Record

PULL, STATUS = "PullImage", "ImageStatus"


def test_numbers_go_on_and_a_question_begins_after_one() -> None:
    """Who follows asks for what is newer than the last that it has seen."""
    history = History()
    for tag in range(3):
        history.note(Record(PULL, f"web:{tag}", Ending.PULLED, 1.0))
    assert [number for number, _ in history.since(0)] == [1, 2, 3]
    assert [record.image for _, record in history.since(2)] == ["web:2"]
    assert history.last == 3


def test_the_oldest_go_first() -> None:
    """Bounded in number."""
    history = History(records=2)
    for tag in range(5):
        history.note(Record(PULL, f"web:{tag}", Ending.PULLED, 1.0))
    assert [record.image for _, record in history.since(0)] == ["web:3", "web:4"]


def test_bounded_in_bytes() -> None:
    """Long reasons make fewer records."""
    history = History(limit_bytes=4096)
    attempts = tuple(Attempt(f"hub{at}", Result.FAILED, "x" * 200) for at in range(3))
    for tag in range(50):
        history.note(Record(PULL, f"web:{tag}", Ending.FAILED, 1.0, attempts=attempts))
    assert 1 <= len(history.since(0)) <= 3


def test_texts_are_bounded_and_printable() -> None:
    """What a stranger writes is cut, on one line, without what steers a terminal."""
    history = History()
    history.note(Record(PULL, "x" * 5000, Ending.FAILED, 1.0, pod="a\x1b[2J", reason="w" * 9999))
    ((_, record),) = history.since(0)
    assert len(record.image) <= 320
    assert record.pod == "a\\x1b[2J"
    assert len(record.reason.encode()) <= 200


def test_absence_is_told_once_and_until_the_pull() -> None:
    """Each pull begins with it, and kubelet asks again and again."""
    history = History()
    for _ in range(3):
        history.note(Record(STATUS, "web:1", Ending.ABSENT, 0.1))
    history.note(Record(STATUS, "never:1", Ending.ABSENT, 0.1))
    history.note(Record(PULL, "web:1", Ending.PULLED, 1.0))
    told = [(record.call, record.image) for _, record in history.since(0)]
    assert told == [(STATUS, "never:1"), (PULL, "web:1")]


def test_the_last_failed_pull_is_forgotten_when_its_image_comes() -> None:
    """Another image's success, or a caller that goes away, changes nothing."""
    history = History()
    history.note(Record(PULL, "web:1", Ending.FAILED, 1.0, code=5))
    history.note(Record(PULL, "db:1", Ending.PULLED, 1.0))
    history.note(Record(PULL, "web:1", Ending.CANCELLED, 1.0))
    assert _failed(history) == "web:1"
    history.note(Record(PULL, "web:1", Ending.PULLED, 1.0))
    assert _failed(history) is None
    history.note(Record(PAUSE, "pause:3.9", Ending.FAILED, 1.0))
    assert _failed(history) == "pause:3.9"


def _failed(history: History) -> str | None:
    return None if history.failed_pull is None else history.failed_pull.image


def test_hosts_that_are_counted_are_bounded() -> None:
    """A configuration may name new ones for as long as the process lives."""
    history = History()
    for number in range(HOSTS + 9):
        history.count([Attempt(f"hub{number}", Result.PULLED)])
        history.count_bytes(f"hub{number}", 5)
    assert len(history.pulls) == len(history.fetched) == HOSTS + 1
    assert history.pulls["other", Result.PULLED] == 9
    assert history.fetched["other"] == 45
