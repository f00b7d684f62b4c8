"""Whether somebody listens at a unix socket: asked in one way by all who want to know."""

from __future__ import annotations

import socket

WAIT_S = 1.0


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
