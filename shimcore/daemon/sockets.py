"""Listening unix sockets: restricted from the start, never stolen, never left behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from shimcore.daemon.activation import is_at
from shimcore.errors import ShimError, SocketInUseError
from shimcore.unixsocket import connection_error

log = logging.getLogger("shimcore.daemon")

# What the runtime's own socket may at most hand on to ours.
WIDEST_MODE = 0o660
BACKLOG = 512


def elsewhere(path: str, inherited: Iterable[socket.socket]) -> list[socket.socket]:
    """The sockets of systemd's that are not at the path; who is at one is served all the same."""
    others = [each for each in inherited if not is_at(each, path)]
    for each in others:
        log.warning(
            "systemd listens at %s, and the configuration says shim: %s: clients of both are "
            "served; run image-cri-shim install-service again for the latter alone",
            os.fsdecode(each.getsockname()),
            path,
        )
    return others


def check_place(path: str) -> None:
    """Raises ShimError where no socket could be made at the path and held, whoever has it now."""
    os.close(_open_lock(path))
    probe = f"{path}.{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise _cannot_be_made(path, error) from error


class ListeningSocket:
    """The place of a listening unix socket, held against other shims by a lock.

    Making one claims the path: the lock file beside it (`.lock` added) decides between two
    shims that start at the same moment, and stays when the socket goes. Nobody can connect
    before `listen`. `inherited` are the sockets that systemd has opened. Raises
    SocketInUseError when another live process serves the path, and ShimError when it cannot be
    claimed.
    """

    def __init__(self, path: str, inherited: Iterable[socket.socket] = ()) -> None:
        self.path = path
        self.inherited = next((each for each in inherited if is_at(each, path)), None)
        self.socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = _lock(path)
        if self.inherited is not None:
            return
        try:
            _remove_stale(path)
        except BaseException:
            os.close(self._lock)
            raise

    def listen(self) -> socket.socket:
        """Bind, for its owner alone from the first moment on, and listen. Raises ShimError.

        A socket that systemd has opened is taken as it is.
        """
        if self.inherited is not None:
            self.socket = self.inherited
            return self.socket
        _remove_stale(self.path)
        self.socket = _bind(self.path)
        self._identity = _identity(self.path)
        return self.socket

    def adopt(self) -> None:
        """The socket file at the path was bound by a library on this one's behalf."""
        self._identity = _identity(self.path)

    def take_access_of(self, other: str) -> None:
        """Take owner, group and mode of another socket, never wider than 0660.

        A socket that systemd has opened keeps what its unit says.
        """
        if self.inherited is not None:
            return
        with contextlib.suppress(FileNotFoundError):
            theirs = os.stat(other)
            ours = os.stat(self.path)
            if (theirs.st_uid, theirs.st_gid) != (ours.st_uid, ours.st_gid):
                with contextlib.suppress(PermissionError):
                    os.chown(self.path, theirs.st_uid, theirs.st_gid)
            os.chmod(self.path, stat.S_IMODE(theirs.st_mode) & WIDEST_MODE)

    def give_up(self) -> None:
        """Leave the path to another process. A socket that systemd has opened stays open here."""
        self._identity = None
        self._unlock()

    def close(self) -> None:
        """Stop listening and remove the socket file, if it is this one's own."""
        if self.socket is not None:
            self.socket.close()
        try:
            if self._identity is not None and _identity(self.path) == self._identity:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:  # nobody listens on it: the next start removes it
            log.warning("socket %s: it stays: %s", self.path, error.strerror)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _open_lock(path: str) -> int:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(f"{path}.lock", flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ShimError(
                f"{path}.lock is a symbolic link, which nobody may follow: remove it"
            ) from error
        raise _cannot_be_made(path, error) from error


def _cannot_be_made(path: str, error: OSError) -> ShimError:
    return ShimError(f"socket {path}: {error.strerror}; is the directory writable?")


def _lock(path: str) -> int:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SocketInUseError(
            f"socket {path}: another image-cri-shim serves it; stop that one first"
        ) from error
    return lock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ShimError(f"socket {path}: something that is no socket is there; remove it")
    error = connection_error(path)
    if isinstance(error, ConnectionRefusedError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif not isinstance(error, FileNotFoundError):
        raise SocketInUseError(f"socket {path}: another process serves it; stop that one first")


def _bind(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(path)
    except OSError as error:
        listening.close()
        raise ShimError(f"socket {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
