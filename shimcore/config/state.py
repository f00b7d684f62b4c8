"""Files in `stateDir`, for what outlives a restart: mode 0600, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator

from shimcore.config.files import FILE_LIMIT_BYTES, read_file
from shimcore.errors import ShimError

# What comes later is no date for datetime and protobuf.
_YEAR_10000 = 253_402_300_800
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
# The folder may have files of others.
UNFINISHED = r"\.(last-good|kubernetes)\.json\.\d+"
"""What a process that was killed while it wrote has left."""


class StateError(ShimError):
    """What is kept could not be read or written; the text says why, and shows nothing of it."""


def kept_at(value: object) -> float:
    """When something was kept (seconds since 1970), as its file says. ValueError for no moment."""
    at = float(str(value))
    if not 0 <= at < _YEAR_10000:
        raise ValueError("not a moment")
    return at


def write_state(folder: str, name: str, content: bytes, what: str) -> None:
    """Write a file, replacing the one before in one step. Raises StateError, naming `what`."""
    if len(content) > FILE_LIMIT_BYTES:
        raise StateError(f"{folder}: {what} cannot be kept: it is too long")
    try:
        os.makedirs(folder, _FOLDER_MODE, exist_ok=True)
        _replace(os.path.join(folder, name), content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateError(f"{folder}: {what} cannot be kept: {reason}") from None


def _replace(path: str, content: bytes) -> None:
    """The new content under a name of its own first, on disk, and only then in place."""
    folder, name = os.path.split(path)
    new = os.path.join(folder, f".{name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _turn(folder):
        _clear_unfinished(folder)
        with contextlib.suppress(FileNotFoundError):  # of a try that could not take it away either
            os.unlink(new)
        descriptor = os.open(new, flags, _FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), _FILE_MODE)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise


@contextlib.contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Nobody else writes a file of the folder meanwhile: two processes do so in a hand-over."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # NFS locks what is open for writing alone: flock(2)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear_unfinished(folder: str) -> None:
    """Remove what processes that were killed have left, which may hold passwords."""
    for name in os.listdir(folder):
        if re.fullmatch(UNFINISHED, name):
            with contextlib.suppress(OSError):  # gone: one of 1.0.0 is not killed; until 2.0
                os.unlink(os.path.join(folder, name))


def read_state(folder: str, name: str) -> bytes | None:
    """What was kept; None for nothing. Raises StateError."""
    path = os.path.join(folder, name)
    try:
        return read_file(path)[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from None
