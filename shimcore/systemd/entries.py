"""Files and links as values, and putting them in place all at once or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.systemd.root import Root
from shimcore.systemd.units import STATE_DIR

PARTIAL = ".image-cri-shim-"
"""After a dot and its name, what a file is called until it is whole; random letters follow."""

_OURS = f"{STATE_DIR}/"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file's bytes, permission bits and owner."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Entry = File | Link


def read(root: Root, path: str) -> Entry | None:
    """What is at `path`, its last link not followed; None when nothing is.

    Raises ShimError for a directory or a device, and for what cannot be read.
    """
    place = root.host(path, last=False)
    try:
        status = place.lstat()
        if stat.S_ISLNK(status.st_mode):
            return Link(os.readlink(place))
        if not stat.S_ISREG(status.st_mode):
            raise ShimError(f"{path}: not a regular file")
        content = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ShimError(f"{path}: {error.strerror}") from error
    return File(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def write(root: Root, path: str, entry: Entry | None) -> None:
    """Put `entry` at `path` (None: nothing), in directories made for it; the service's are root's.

    The old entry is replaced in one step. Raises ShimError.
    """
    place = root.host(path, last=False)
    try:
        if entry is None:
            root.changing(path)
            place.unlink(missing_ok=True)
            return
        for directory in missing_directories(root, path):
            root.changing(directory)
            root.host(directory).mkdir()
            root.host(directory).chmod(0o700 if f"{directory}/".startswith(_OURS) else 0o755)
        root.changing(path)
        put(place, entry)
    except OSError as error:
        raise ShimError(f"{path}: {error.strerror}") from error


def missing_directories(root: Root, path: str) -> list[str]:
    """The directories above `path` that are not there, outermost first."""
    missing: list[str] = []
    directory = root.host(path, last=False).parent
    while not directory.exists():
        missing.insert(0, "/" + str(directory.relative_to(root.directory)))
        directory = directory.parent
    return missing


def remove_empty(root: Root, directory: str) -> None:
    """Remove a directory unless something is in it. Raises ShimError where it cannot be kept."""
    with contextlib.suppress(OSError):
        if os.listdir(root.host(directory)):
            return
        root.changing(directory)
        root.host(directory).rmdir()


def put(place: Path, entry: Entry) -> None:
    """Replace what is at a place of this machine in one step, on the disk then. Raises OSError."""
    prefix = f".{place.name}{PARTIAL}"
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=place.parent)
    try:
        if isinstance(entry, File):
            _fill(descriptor, entry, place)
        else:
            os.unlink(name)
            os.symlink(entry.target, name)
        os.rename(name, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    finally:
        os.close(descriptor)
    sync(place.parent)


def _fill(descriptor: int, entry: File, old: Path) -> None:
    if (entry.uid, entry.gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, entry.uid, entry.gid)
    if old.is_file() and not old.is_symlink():
        # SELinux labels and access lists go on to the new file.
        for attribute in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, attribute, os.getxattr(old, attribute))
    os.fchmod(descriptor, entry.mode)
    view = memoryview(entry.content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def sync(path: Path) -> None:
    """Have a file's bytes, or a directory's names, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
