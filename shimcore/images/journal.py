"""Pulls through a registry that are under way, on disk: what a killed shim leaves to be done.

A line of JSON a change, appended: a pull that begins with its image, the name it is pulled
as and the time; that name alone where a pull of it has ended, and after it those of other images
that have not. Versions that know of one image for a name see the last of them. A name that is
created after that time is the pull's, and goes when the image has its own; a later line moves
the time. Which boot it was, and how far the clock was ahead of the boot's own, tells by how much it
has been set since.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from shimcore.images.moment import Moment, boot_id, wall_ahead_s
from shimcore.threads import Worker

logger = logging.getLogger("shimcore.images")

COMPACT_BYTES = 65_536
"""A larger file is written anew, with the pulls that are under way alone."""

READ_BYTES = 1 << 20
"""What is read of a file at a start; it never grows that large by itself."""

LEFT_LIMIT = 1024
"""Unfinished pulls that are remembered; a node has a few dozen at once."""

WITHOUT = "after a crash of the shim a registry's name may stay on an image"
"""What it costs that a journal cannot be had."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A pull of `image` as `candidate`; names that were there at `at` (seconds since 1970) are not
    its own. `ahead_s` as a `Moment` of this boot has it; None of another."""

    image: str
    candidate: str
    at: float
    ahead_s: float | None = field(default=None, compare=False)

    @property
    def since(self) -> float:
        """`at` by the clock as it is now, as far as that can be told."""
        return self.at if self.ahead_s is None else Moment(self.at, self.ahead_s).seconds

    @property
    def line(self) -> bytes:
        """As it stands in a journal."""
        entry: dict[str, object] = {
            "image": self.image,
            "candidate": self.candidate,
            "at": self.at,
        }
        if self.ahead_s is not None and boot_id():
            entry |= {"ahead": self.ahead_s, "boot": boot_id()}
        return _line(entry)

    @property
    def key(self) -> tuple[str, str]:
        """What there is one of: images of several registries may be pulled as one candidate."""
        return self.image, self.candidate


class Journal:
    """The journal at `path`; None keeps it in memory alone. `worker` reads and writes, in order."""

    def __init__(self, path: str | None, worker: Worker | None = None) -> None:
        self._path = path
        self._worker = worker or Worker()
        self._open: dict[tuple[str, str], Unfinished] = {}
        self._bytes = 0
        self.fault = ""
        """Why the last change could not be written, and what that costs."""

    def unfinished(self) -> list[Unfinished]:
        """The pulls whose end is not known."""
        return list(self._open.values())

    def since(self, candidate: str, started: float) -> float:
        """When the oldest pull of that name began that is not known to have ended, by the clock as
        it is now, as `started` is."""
        return min([started, *(one.since for one in self._of(candidate))])

    def _of(self, candidate: str) -> list[Unfinished]:
        return [one for one in self._open.values() if one.candidate == candidate]

    async def load(self, path: str) -> list[Unfinished]:
        """Keeps the journal at `path` from now on, the next change with all that is open. What an
        earlier process has left there; what cannot be read counts as nothing.

        Raises TimeoutError, RuntimeError as `Worker.do` does.
        """
        found = await self._worker.do(partial(self._read, path)) or {}
        left = {key: one for key, one in found.items() if self._open.get(key) != one}
        self._open.update(left)
        self._path, self._bytes = path, COMPACT_BYTES
        return list(left.values())

    async def take_over(self, path: str) -> list[Unfinished]:
        """Makes another process's unfinished pulls this journal's, and removes that one's file.

        Raises TimeoutError, RuntimeError as `Worker.do` does.
        """
        left = await self._worker.do(partial(self._read, path))
        if left is None:
            return []
        for one in left.values():
            known = self._open.get(one.key)
            if known is None or known.since > one.since:
                self._open[one.key] = one
                await self._write(one.line)
        with contextlib.suppress(OSError):
            await self._worker.do(partial(os.unlink, path))
        return [self._open[key] for key in left if key in self._open]

    def _read(self, path: str) -> dict[tuple[str, str], Unfinished] | None:
        """The pulls that a journal has open; None when it cannot be read."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                text = file.read(READ_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(path, _reason(error))
            return None
        found: dict[tuple[str, str], Unfinished] = {}
        for line in text.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                _take(found, json.loads(line))
        return found

    async def began(self, image: str, candidate: str, at: float) -> None:
        """Returns when it is written: only then may the pull go out."""
        if (image, candidate) in self._open:  # an older one says it already
            return
        one = Unfinished(image, candidate, self.since(candidate, at), wall_ahead_s())
        self._open[one.key] = one
        await self._write(one.line)

    def spare(self, repository: str) -> list[Unfinished]:
        """Counts what is there of a repository now as older than its unfinished pulls: somebody
        asked for it. Those pulls, to be given to `note`."""
        now, of_it = Moment(), (f"{repository}:", f"{repository}@")
        pulls = [one for one in self._open.values() if one.candidate.startswith(of_it)]
        moved = [replace(one, at=now.at, ahead_s=now.ahead_s) for one in pulls]
        self._open.update((one.key, one) for one in moved)
        return moved

    async def note(self, pulls: Iterable[Unfinished]) -> None:
        """Writes what these unfinished pulls are now, those that have not ended meanwhile."""
        for one in pulls:
            if self._open.get(one.key) is one:
                await self._write(one.line)

    async def ended(self, image: str, candidate: str) -> None:
        """The name that the pull brought is gone, or is no longer this image's only one."""
        if self._open.pop((image, candidate), None) is not None:
            lines = [_line({"candidate": candidate}), *(one.line for one in self._of(candidate))]
            await self._write(b"".join(lines))

    async def _write(self, lines: bytes) -> None:
        if self._path is not None:
            # To its end, whoever waits: the next one comes after it.
            await asyncio.shield(asyncio.ensure_future(self._write_now(self._path, lines)))

    async def _write_now(self, path: str, lines: bytes) -> None:
        whole = None
        if self._bytes + len(lines) > COMPACT_BYTES:
            whole = b"".join(one.line for one in self._open.values())
            self._bytes = len(whole)
        else:
            self._bytes += len(lines)
        try:
            await self._worker.do(
                partial(_put, path, lines, whole), lambda: self._tell(path, "it does not answer")
            )
        except (OSError, RuntimeError) as error:  # the latter: no thread can be started
            self._bytes = COMPACT_BYTES  # a line may be cut: the next change writes it anew
            self._tell(path, _reason(error))
        else:
            self.fault = ""

    def _tell(self, path: str, reason: str) -> None:
        text = f"{path}: {reason}; {WITHOUT}"
        if not self.fault:
            logger.warning("%s", text)
        self.fault = text


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _take(found: dict[tuple[str, str], Unfinished], entry: dict[str, object]) -> None:
    candidate = str(entry["candidate"])
    if "image" not in entry:
        for key in [key for key in found if key[1] == candidate]:
            del found[key]
        return
    known = boot_id() != "" and entry.get("boot") == boot_id()
    ahead_s = float(str(entry["ahead"])) if known else None
    one = Unfinished(str(entry["image"]), candidate, float(str(entry["at"])), ahead_s)
    if one.key in found or len(found) < LEFT_LIMIT:
        found[one.key] = one


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _put(path: str, line: bytes, whole: bytes | None) -> None:
    """Append a line, or write the file anew without a moment in which it is not there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    flags |= os.O_APPEND if whole is None else os.O_TRUNC
    target = path if whole is None else f"{path}.new"
    try:
        descriptor = os.open(target, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        descriptor = os.open(target, flags, 0o600)
    try:
        left = line if whole is None else whole
        while left:  # on a disk that is nearly full a part is taken, and then nothing
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)
    if whole is not None:
        os.replace(f"{path}.new", path)
