"""The image calls that have ended lately, in memory: what `history` and `status` tell of them."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from shimcore.images.wording import NAME_LIMIT, printable, reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shimcore.images.attempts import Attempt

RECORDS = 500
"""A node that starts all its pods anew makes some hundreds of pulls."""

LIMIT_BYTES = 1 << 20
"""Of all records together: one with ten registries and their reasons has some 3 KiB."""

HOSTS = 256
"""That are counted; further ones, as a configuration names new ones for ever, are one."""

_OTHER = "other"
_OVERHEAD_BYTES = 256  # of a record, and of each attempt in it
PAUSE = "pause image"
PULLS = frozenset({"PullImage", PAUSE})


class Ending(StrEnum):
    """How an image call ended."""

    PULLED = "pulled"
    PASSED_ON = "passed on"
    ABSENT = "absent"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Record:
    """One image call that has ended, after so many `seconds`; `at` is its begin, since 1970.

    `code` is the gRPC status; `registry` the host that it came from ("": none, or the
    original's); `attempts` each registry's part, in order. Its texts may be shown once it has
    been noted.
    """

    call: str
    image: str
    ending: Ending
    seconds: float
    pod: str = ""
    code: int = 0
    registry: str = ""
    bytes: int = 0
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()
    at: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", time.time() - self.seconds)


class History:
    """Bounded in number and in bytes: the oldest records go first."""

    def __init__(self, records: int = RECORDS, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limits = records, limit_bytes
        self._records: OrderedDict[int, tuple[Record, int]] = OrderedDict()
        self._bytes = 0
        self._absent: dict[str, int] = {}  # image → the record that says so
        self.last = 0
        """The number of the newest record; the first one has 1."""
        self.pulls: Counter[tuple[str, str]] = Counter()
        """Pulls by registry host and result; `fetched`: bytes by registry host."""
        self.fetched: Counter[str] = Counter()
        self._hosts: set[str] = set()
        self.failed_pull: Record | None = None
        """The pull that failed last, unless its image has been pulled since."""

    def note(self, record: Record) -> None:
        """Remember a call that ends now.

        That an image is absent is what each pull begins with: it is told once for an image, and
        only until its pull has ended.
        """
        record = replace(
            record,
            image=printable(record.image, NAME_LIMIT),
            pod=printable(record.pod, NAME_LIMIT),
            reason=reason(record.reason),
        )
        self._drop(self._absent.pop(record.image, 0))
        self._take(record)
        if record.ending is Ending.ABSENT:
            self._absent[record.image] = self.last
        if record.call in PULLS:
            self._note_pull(record)

    def count(self, attempts: Iterable[Attempt]) -> None:
        """Count a pull, whoever waits for it, at each registry that had a part in it."""
        for one in attempts:
            self.pulls[self._counted(one.host), one.result] += 1

    def count_bytes(self, host: str, number: int) -> None:
        """Count bytes that have come from a registry."""
        self.fetched[self._counted(host)] += number

    def _counted(self, host: str) -> str:
        if len(self._hosts) < HOSTS:
            self._hosts.add(host)
        return host if host in self._hosts else _OTHER

    def since(self, number: int) -> list[tuple[int, Record]]:
        """The records after that number, each with its own, the oldest first."""
        return [(each, record) for each, (record, _) in self._records.items() if each > number]

    def _note_pull(self, record: Record) -> None:
        if record.ending is Ending.FAILED:
            self.failed_pull = record
        elif record.ending is not Ending.CANCELLED and self.failed_pull is not None:
            self.failed_pull = None if record.image == self.failed_pull.image else self.failed_pull

    def _take(self, record: Record) -> None:
        size = _size(record)
        self.last += 1
        self._records[self.last] = record, size
        self._bytes += size
        most, limit_bytes = self._limits
        while len(self._records) > most or self._bytes > limit_bytes:
            self._drop(next(iter(self._records)))

    def _drop(self, number: int) -> None:
        record, size = self._records.pop(number, (None, 0))
        self._bytes -= size
        if record is not None and self._absent.get(record.image) == number:
            del self._absent[record.image]


def _size(record: Record) -> int:
    texts = (record.image, record.pod, record.registry, record.reason)
    words = [text for one in record.attempts for text in (one.host, one.detail)]
    return sum(map(len, (*texts, *words))) + _OVERHEAD_BYTES * (1 + len(record.attempts))
