"""Files that a configuration is read from; each reading is remembered, to notice changes."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b

from shimcore.config.model import FileStamp

FILE_LIMIT_BYTES = 4 * 1024 * 1024
"""Four times what a ConfigMap can hold; more is not a configuration."""

# Keyed, and anew for each process: a stamp of a short password says nothing about it.
_STAMP_KEY = os.urandom(32)

_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


class UnreadableFileError(Exception):
    """A file that cannot be used; its text is a reason without the path."""


class Files:
    """Reads files below `base`, and keeps a stamp of what each one held."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._stamps: dict[str, str] = {}
        self._modes: dict[str, int] = {}

    def resolve(self, path: str) -> str:
        """The path itself if absolute, else the one from the configuration's own folder."""
        return os.path.join(self._base, path)

    def read_bytes(self, path: str) -> bytes:
        """What the file holds. Raises UnreadableFileError."""
        try:
            content, mode = _read(path)
        except OSError as error:
            self._stamps[path] = _error_stamp(error)
            raise UnreadableFileError(_reason(error)) from None
        self._stamps[path] = _content_stamp(content)
        self._modes[path] = mode
        if len(content) > FILE_LIMIT_BYTES:
            raise UnreadableFileError(f"larger than {FILE_LIMIT_BYTES // 1024 // 1024} MiB")
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
        content, _ = _read(path)
    except OSError as error:
        return _error_stamp(error)
    return _content_stamp(content)


def _read(path: str) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        return file.read(FILE_LIMIT_BYTES + 1), mode


def _content_stamp(content: bytes) -> str:
    return blake2b(content, key=_STAMP_KEY, digest_size=16).hexdigest()


def _error_stamp(error: OSError) -> str:
    return f"errno {error.errno}"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "this user may not read it"
    if isinstance(error, IsADirectoryError):
        return "is a directory, not a file"
    return os.strerror(error.errno) if error.errno else "cannot be read"
