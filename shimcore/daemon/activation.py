"""Sockets that systemd has opened for the service (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3


def inherited_socket(path: str) -> socket.socket | None:
    """The listening unix socket at `path` that came with the process, if there is one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = int(os.environ.get("LISTEN_FDS") or 0)
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        os.set_inheritable(fd, False)
        candidate = socket.socket(fileno=os.dup(fd))
        if _listens_at(candidate, path):
            candidate.setblocking(False)
            return candidate
        candidate.close()
    return None


def _listens_at(candidate: socket.socket, path: str) -> bool:
    if candidate.family != socket.AF_UNIX:
        return False
    if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = candidate.getsockname()
    return isinstance(name, str) and os.path.realpath(name) == os.path.realpath(path)
