"""What was there before each change, kept on the disk before the change is made.

An entry is a line of shell in a file of its own, numbered; the undo script takes them in reverse
order. A copy of what was there, with owner, mode, times and extended attributes (SELinux labels
among them), lies beside it. An entry is there whole or not at all, and before its change.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.switch.exchange import JOURNAL
from shimcore.systemd.entries import File, put, sync
from shimcore.systemd.root import Root

KEPT = ".kept"


class Journal:
    """The entries of one switch, below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._noted: set[str] = set()
        self._number = 0

    def begin(self) -> None:
        """An empty journal. Raises ShimError."""
        try:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(mode=0o700)
        except OSError as error:
            raise ShimError(f"{self._directory}: {error.strerror}") from error

    def note(self, line: str) -> None:
        """Have the undo do `line` after all that is noted later; a second time it is not noted."""
        if line not in self._noted:
            self._enter(line)

    def keep(self, path: Path) -> None:
        """Keep what is at `path`, or that nothing is; of one path the first time counts."""
        place = shlex.quote(str(path))
        mark = f"at {place}"
        if mark in self._noted:
            return
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._enter(f"gone {place}", mark)
            return
        number = self._next()
        kept = self._directory / f"{number}{KEPT}"
        try:
            _copy(path, kept, status)
        except OSError as error:
            raise ShimError(f"{path} cannot be kept as it is: {error.strerror}") from error
        self._enter(f"back {number} {place}", mark)

    def _next(self) -> str:
        return f"{self._number + 1:06}"

    def _enter(self, line: str, mark: str = "") -> None:
        """On the disk when this returns."""
        place = self._directory / self._next()
        try:
            put(place, File(f"{line}\n".encode()))
        except OSError as error:
            raise ShimError(f"{place}: {error.strerror}") from error
        self._number += 1
        self._noted.add(mark or line)


class JournaledRoot(Root):
    """A root each change of which is in the journal before it is made."""

    def __init__(self, root: Root) -> None:
        super().__init__(root.directory)
        self.journal = Journal(root.host(JOURNAL))
        self._then: dict[str, tuple[str, ...]] = {}

    def changing(self, path: str) -> None:
        """Keep what is there. Raises ShimError, and then nothing may change."""
        for line in self._then.get(path, ()):
            self.journal.note(line)
        self.journal.keep(self.host(path, last=False))

    def after_putting_back(self, path: str, *lines: str) -> None:
        """Have the undo do `lines`, the last first, when it has put back a changed `path`."""
        self._then[path] = lines


def _copy(path: Path, kept: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        kept.mkdir(exist_ok=True)
    elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        kept.unlink(missing_ok=True)
        shutil.copyfile(path, kept, follow_symlinks=False)
    else:
        raise OSError(0, "neither a file nor a link nor a directory")
    os.chown(kept, status.st_uid, status.st_gid, follow_symlinks=False)
    shutil.copystat(path, kept, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        sync(kept)
