"""Sockets that systemd has opened for the service (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import stat

from shimcore.errors import ShimError

_FIRST_FD = 3


def inherited_socket(path: str) -> socket.socket | None:
    """The listening unix socket at `path` that came with the process, if there is one.

    Raises ShimError where what came is not what the environment says.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    for fd in range(_FIRST_FD, _FIRST_FD + _count()):
        try:
            os.set_inheritable(fd, False)
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            candidate = socket.socket(fileno=os.dup(fd))
        except OSError as error:
            raise ShimError(
                f"LISTEN_FDS: descriptor {fd} cannot be used: {error.strerror}; "
                "systemd or what stands in its place has to hand over the socket"
            ) from error
        if _listens_at(candidate, path):
            candidate.setblocking(False)
            return candidate
        candidate.close()
    return None


def _count() -> int:
    text = os.environ.get("LISTEN_FDS") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= len("65536")):
        raise ShimError(
            f"LISTEN_FDS: a number of sockets expected, not {text[:40]!r}; unset LISTEN_PID to "
            "start without sockets that were handed over"
        )
    return int(text)


def _listens_at(candidate: socket.socket, path: str) -> bool:
    if candidate.family != socket.AF_UNIX:
        return False
    if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = candidate.getsockname()
    return isinstance(name, str) and os.path.realpath(name) == os.path.realpath(path)
