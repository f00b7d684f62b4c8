"""A unix socket: its path in a text, and whether somebody listens, asked in one way by all."""

from __future__ import annotations

import socket

WAIT_S = 1.0


def socket_path(text: str) -> str:
    """The path in `unix:///run/x.sock`, `unix:/run/x.sock` or a plain path; not looked at."""
    return text.removeprefix("unix://").removeprefix("unix:")


def connected(path: str) -> socket.socket:
    """A connection that never waits, made at once (connect(2)). Raises OSError.

    BlockingIOError: somebody listens there and does not accept; the queue is full.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def is_forbidden(path: str) -> bool:
    """Whether this user may not connect to the socket; asked at once."""
    try:
        connected(path).close()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def connection_error(path: str, wait_s: float = WAIT_S) -> OSError | None:
    """Why no connection can be made (connect(2)); None when somebody listens.

    A queue that is full is somebody's, who does not accept just now.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(wait_s)
        try:
            connection.connect(path)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            return error
    return None
