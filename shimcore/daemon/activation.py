"""Sockets that systemd has opened for the service (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import stat

from shimcore.errors import ShimError

_FIRST_FD = 3


def inherited_sockets() -> list[socket.socket]:
    """The listening unix sockets that came with the process.

    To be asked before anything is opened: a descriptor that was closed is another one's then.
    Raises ShimError where what came is not what the environment says.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = []
    for fd in range(_FIRST_FD, _FIRST_FD + _count()):
        try:
            os.set_inheritable(fd, False)
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            candidate = socket.socket(fileno=fd)
        except OSError as error:
            raise ShimError(
                f"LISTEN_FDS: descriptor {fd} cannot be used: {error.strerror}; "
                "systemd or what stands in its place has to hand over the socket"
            ) from error
        if _listens(candidate):
            candidate.setblocking(False)
            found.append(candidate)
        else:
            candidate.detach()
    return found


def is_at(listening: socket.socket, path: str) -> bool:
    """Whether the socket is the one of this path."""
    name = listening.getsockname()
    return isinstance(name, str) and os.path.realpath(name) == os.path.realpath(path)


def _count() -> int:
    text = os.environ.get("LISTEN_FDS") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= len("65536")):
        raise ShimError(
            f"LISTEN_FDS: a number of sockets expected, not {text[:40]!r}; unset LISTEN_PID to "
            "start without sockets that were handed over"
        )
    return int(text)


def _listens(candidate: socket.socket) -> bool:
    if candidate.family != socket.AF_UNIX:
        return False
    return bool(candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
