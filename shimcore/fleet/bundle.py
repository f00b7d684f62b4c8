"""The bundle, put on the node: whole or not at all, every file checked against its sum.

The image has it in one folder with a list of sums beside it, in the form of sha256sum(1). On the
node each version has a folder of its own below `/opt/image-cri-shim`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shimcore.fleet.values import BundleError
from shimcore.switch.exchange import CURRENT as CURRENT_LINK
from shimcore.systemd.command import NAME
from shimcore.systemd.entries import sync

CURRENT = PurePosixPath(CURRENT_LINK).name
_UNFINISHED = ".unfinished-"
_IN_USE_S = 20 * 60.0
"""After an upgrade the process before goes on for a quarter of an hour, out of its own version."""
_SUMS_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """The image's own copy: its folder, the list of sums, and the version that it is of."""

    folder: Path
    sums: Path
    version: str


def unpack(bundle: Bundle, place: Path) -> bool:
    """Have the bundle in `place`; whether anything had to be written. Raises BundleError.

    A copy that is there and not as its sums say is replaced.
    """
    sums = read_sums(bundle.sums)
    target = place / bundle.version
    if target.is_dir() and is_whole(target, sums):
        return False
    unfinished = place / f"{_UNFINISHED}{bundle.version}"
    try:
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear(unfinished)
        _copy(bundle.folder, unfinished, sums)
        broken = place / f"{_UNFINISHED}broken-{bundle.version}"
        _clear(broken)
        if target.exists():
            target.rename(broken)
        unfinished.rename(target)
        _clear(broken)
        sync(place)
    except OSError as error:
        where = error.filename or place
        raise BundleError(f"{where}: {error.strerror}; the bundle is not on the node") from error
    finally:
        with contextlib.suppress(OSError):  # a part would keep a full disk full
            _clear(unfinished)
    return True


def read_sums(path: Path) -> dict[str, str]:
    """File below the bundle → its SHA-256. Raises BundleError."""
    try:
        with path.open("rb") as file:
            data = file.read(_SUMS_LIMIT + 1)
        if len(data) > _SUMS_LIMIT:
            raise BundleError(f"{path}: the list of sums is longer than {_SUMS_LIMIT} bytes")
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: the list of sums cannot be read: {error}") from error
    sums: dict[str, str] = {}
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        inside = PurePosixPath(name)
        if len(digest) != 64 or not name or inside.is_absolute() or ".." in inside.parts:
            raise BundleError(f"{path}: {line[:80]!r} is no sum")
        sums[name] = digest
    if NAME not in sums:
        raise BundleError(f"{path}: has no {NAME}")
    return sums


def is_whole(folder: Path, sums: Mapping[str, str]) -> bool:
    """Whether every file is there as its sum says."""
    try:
        return all(_sum(folder / name) == digest for name, digest in sums.items())
    except OSError:
        return False


def old_are_unused(place: Path) -> bool:
    """Whether every process of another version has ended, since the link has moved long ago."""
    try:
        return time.time() - (place / CURRENT).lstat().st_mtime > _IN_USE_S
    except OSError:
        return False


def remove_old(place: Path, keep: frozenset[str]) -> list[str]:
    """Take away versions beyond those to keep and the newest of the others; their names.

    Not before `old_are_unused`. The newest of the others is there for a way back.
    """
    keep |= {current(place) or ""}
    others = [each for each in _versions(place) if each.name not in keep]
    others.sort(key=lambda each: each.stat().st_mtime)
    for each in others[:-1]:
        _clear(each)
    return [each.name for each in others[:-1]]


def current(place: Path) -> str | None:
    """The version that the units run."""
    try:
        return PurePosixPath(os.readlink(place / CURRENT)).name
    except OSError:
        return None


def _versions(place: Path) -> list[Path]:
    """The folders that are a bundle: the names of versions begin with a digit."""
    return [each.parent for each in place.glob(f"[0-9]*/{NAME}")]


def _copy(source: Path, target: Path, sums: Mapping[str, str]) -> None:
    for name, digest in sums.items():
        there = target / name
        there.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _copy_file(source / name, there) != digest:
            raise BundleError(f"{source / name}: not what its sum says; the image is damaged")
    os.utime(target)


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file to disk with its mode; the sum of what was written."""
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written)
        os.fchmod(written.fileno(), stat.S_IMODE(os.fstat(read.fileno()).st_mode))
        written.flush()
        os.fsync(written.fileno())
    return _sum(target)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
