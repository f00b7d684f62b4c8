"""Files that a configuration is read from; each reading is remembered, to notice changes.

Regular files only, opened without waiting: a FIFO or a device in their place holds up nobody.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from hashlib import blake2b

from shimcore.config.model import FileStamp
from shimcore.errors import ConfigError, ConfigFault, ShimError

FILE_LIMIT_BYTES = 4 * 1024 * 1024
"""More than any bundle of authorities; what is longer is none, and no login."""

# Keyed, and anew for each process: a stamp of a short password says nothing about it.
_STAMP_KEY = os.urandom(32)

_NOT_REGULAR = "not a regular file"
# By any thread, the latest last.
_being_read: list[str] = []
_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


Contents = Callable[[str], bytes | None]
"""What the file at a path holds, or held; None: to be read."""


class UnreadableFileError(ShimError):
    """A file that cannot be used; its text is a reason without the path."""


class SilentFileError(ConfigError):
    """A configuration that is not read in time: `file`, of all that it names, does not answer."""

    def __init__(self, path: str) -> None:
        self.file = _waited_for(path)
        super().__init__(path, (ConfigFault("", not_answering(path)),))


class Files:
    """Reads files below `base`, and keeps what each one held, and a stamp of it.

    Of the files that `kept` knows, that is what they hold, whatever they hold now.
    """

    def __init__(self, base: str, kept: Contents = lambda _: None) -> None:
        self._base = base
        self._kept = kept
        self._stamps: dict[str, str] = {}
        self._modes: dict[str, int] = {}
        self.contents: dict[str, bytes] = {}

    def resolve(self, path: str) -> str:
        """The path itself if absolute, else the one from the configuration's own folder."""
        return os.path.join(self._base, path)

    def read_bytes(self, path: str) -> bytes:
        """What the file holds. Raises UnreadableFileError."""
        held = self._kept(path)
        if held is not None:
            return held
        try:
            content, mode = read_file(path)
        except OSError as error:
            self._stamps[path] = _error_stamp(error)
            raise UnreadableFileError(_reason(error)) from error
        self._stamps[path] = _content_stamp(content)
        self._modes[path] = mode
        if len(content) > FILE_LIMIT_BYTES:
            raise UnreadableFileError(f"larger than {FILE_LIMIT_BYTES // 1024 // 1024} MiB")
        self.contents[path] = content
        return content

    def read_text(self, path: str) -> str:
        """The file's text (UTF-8). Raises UnreadableFileError."""
        content = self.read_bytes(path)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            position = error.start
        # Built outside the handler: the error holds the file's bytes.
        raise UnreadableFileError(f"not UTF-8 text (byte {position + 1})")

    def readable_by_others(self, path: str) -> int | None:
        """The mode bits of a file that was read, if its group or others can read it."""
        mode = self._modes.get(path)
        return mode if mode is not None and mode & _READABLE_BY_OTHERS else None

    def stamps(self) -> tuple[FileStamp, ...]:
        """What was read so far."""
        return tuple(FileStamp(path, stamp) for path, stamp in self._stamps.items())


def stamp_now(path: str) -> str:
    """The stamp that reading the file now would leave."""
    try:
        content, _ = read_file(path)
    except OSError as error:
        return _error_stamp(error)
    return _content_stamp(content)


def read_file(path: str) -> tuple[bytes, int]:
    """What a regular file holds, at most a byte more than FILE_LIMIT_BYTES, and its mode bits.

    Raises OSError, for what is no regular file as well; never waits for a writer.
    """
    _being_read.append(path)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, _NOT_REGULAR, path)
            return file.read(FILE_LIMIT_BYTES + 1), stat.S_IMODE(status.st_mode)
    finally:
        _being_read.remove(path)


def not_answering(otherwise: str) -> str:
    """What is said of a look that takes too long: of the file that is being read now, which may
    be on a disk that does not answer; of `otherwise` where it is none."""
    return f"{_waited_for(otherwise)}: it does not answer"


def _waited_for(otherwise: str) -> str:
    return [otherwise, *_being_read][-1]


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _content_stamp(content: bytes) -> str:
    return blake2b(content, key=_STAMP_KEY, digest_size=16).hexdigest()


def _error_stamp(error: OSError) -> str:
    return f"errno {error.errno}"


def _reason(error: OSError) -> str:
    if error.strerror == _NOT_REGULAR:
        return _NOT_REGULAR
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "this user may not read it"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a file"
    return os.strerror(error.errno) if error.errno else "cannot be read"
