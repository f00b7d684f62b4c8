"""Turns of the event loop, and what of a chunk is gone through in one."""

from __future__ import annotations

import asyncio

from shimcore.relay import frames
from shimcore.relay.limits import SLICE_FRAMES, SLICE_S, TURN_S
from shimcore.relay.scanner import Scanner, Verdict
from shimcore.relay.turns import Intake, Turns


class Clock:
    """Time that goes on when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """So many slices of work, each of which takes all its time."""

    def __init__(self, name: str, slices: int, clock: Clock, seen: list[str]) -> None:
        self.name, self.slices, self.clock, self.seen = name, slices, clock, seen

    def go_on(self, until: float) -> bool:
        self.seen.append(self.name)
        self.slices -= 1
        self.clock.now = until
        return self.slices > 0

    def broken(self, error: Exception) -> None:
        raise AssertionError


async def test_a_turn_has_an_end_and_everybody_has_a_slice_of_the_next() -> None:
    """Whoever asks first does not keep the others waiting, and none takes more than the turn."""
    clock, seen = Clock(), list[str]()
    turns = Turns(clock)
    slices = round(TURN_S / SLICE_S)
    for name in "abc":
        turns.ask(Worker(name, 2 * slices, clock, seen))
    assert seen == ["a"]
    lengths = []
    while len(seen) < 6 * slices:
        before = len(seen)
        await asyncio.sleep(0)
        lengths.append(len(seen) - before)
    assert max(lengths) == slices
    assert all(seen.count(name) == 2 * slices for name in "abc")
    assert seen[1:-2] == list("abc" * (2 * slices - 1))


async def test_nobody_is_served_at_once_when_the_turn_is_over() -> None:
    """Chunks that come when others have used the turn up wait for the next one."""
    clock, seen = Clock(), list[str]()
    turns = Turns(clock)
    slices = round(TURN_S / SLICE_S)
    for _ in range(slices):
        turns.ask(Worker("one", 1, clock, seen))
    turns.ask(Worker("late", 1, clock, seen))
    assert seen == ["one"] * slices
    await asyncio.sleep(0)
    assert seen[slices:] == ["late"]
    turns.ask(Worker("next", 1, clock, seen))
    assert seen[-1] == "next"


async def test_who_fails_does_not_keep_the_others_from_their_turn() -> None:
    """A defect ends one connection, not all."""
    clock, seen = Clock(), list[str]()
    turns = Turns(clock)

    told: list[object] = []

    class Broken(Worker):
        def go_on(self, until: float) -> bool:
            raise MemoryError

        def broken(self, error: Exception) -> None:
            told.append(error)

    turns.later(Broken("broken", 1, clock, seen))
    turns.later(Worker("fine", 1, clock, seen))
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == ["fine"]
    assert [type(error) for error in told] == [MemoryError]


def test_an_intake_gives_a_chunk_after_the_other() -> None:
    """The rest of one before the next."""
    intake = Intake()
    assert not intake
    for chunk in (b"ab", b"c"):
        intake.add(chunk)
    seen: list[bytes | int] = []
    rest = [True, False]

    def feed(data: bytes, limit: int) -> bool:
        assert limit == SLICE_FRAMES
        seen.append(data)
        return data == b"ab"

    def more(limit: int) -> bool:
        seen.append(limit)
        return rest.pop(0)

    assert intake.size == 3
    while intake:
        intake.step(feed, more)
    assert seen == [b"ab", SLICE_FRAMES, SLICE_FRAMES, b"c"]
    assert intake.size == 0
    intake.add(b"d")
    intake.clear()
    assert not intake


def test_so_many_frames_and_no_more_are_looked_at() -> None:
    """Those behind them stay, and what was looked at has gone out."""
    seen: list[int] = []

    def handle(data: bytes, start: int, end: int, flags: int, stream: int) -> Verdict:
        seen.append(stream)
        if stream == 2:
            scanner.inject(b"own")
        return Verdict.TAKE if stream == 3 else Verdict.PASS

    scanner = Scanner([handle])
    sent = [frames.frame(frames.DATA, 0, stream, bytes(stream)) for stream in range(1, 8)]
    assert scanner.feed(b"".join(sent)[:-1], 2)
    assert seen == [1, 2]
    assert scanner.out == [sent[0] + sent[1], b"own"]
    assert scanner.go_on(1)
    assert scanner.go_on(1)
    assert seen == [1, 2, 3, 4]
    assert scanner.out[2:] == [sent[3]]
    assert not scanner.go_on()
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert scanner.out[3:] == [b"".join(sent[4:])[:-1]]
    assert not scanner.feed(sent[6][-1:] + sent[0], 1)
    assert seen[-1] == 1
    assert not scanner.go_on()


def test_a_header_that_is_cut_off_waits_behind_the_last_frame() -> None:
    """It is no rest to go on with: more bytes have to come first."""
    scanner = Scanner([None])
    whole = frames.frame(frames.DATA, 0, 1, b"x")
    assert not scanner.feed(whole + whole[:5], 1)
    assert not scanner.feed(whole[5:], 1)
    assert b"".join(scanner.out) == whole + whole


def test_a_scanner_that_has_lost_sight_passes_the_rest_on() -> None:
    """What was left of a chunk is bytes like all others."""
    scanner = Scanner([None])
    whole = frames.frame(frames.DATA, 0, 1, b"x")
    assert scanner.feed(whole * 3, 1)
    scanner.drop_sight()
    assert not scanner.go_on(1)
    assert b"".join(scanner.out) == whole * 3
