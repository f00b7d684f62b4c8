"""What a faultless configuration names that cannot work on this machine."""

from __future__ import annotations

import os
import stat

from shimcore.config.model import Config
from shimcore.reference.patterns import pattern_doubt


def doubts(config: Config) -> tuple[str, ...]:
    """A line for each, beginning with its key."""
    sockets = (("shim", config.shim_socket), ("admin", config.admin_socket))
    found = [(key, _socket_doubt(path)) for key, path in sockets]
    found += [
        (f"exclude[{index}]", pattern_doubt(pattern))
        for index, pattern in enumerate(config.exclude)
    ]
    return tuple(f"{key}: {why}" for key, why in found if why)


def _socket_doubt(path: str) -> str:
    """Why no socket can be made there; "" when one can."""
    if os.path.lexists(path) and not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
        return f"{path} is there and is no socket"
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):  # missing folders are made
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{path} cannot be made: {folder} is no directory"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{path} cannot be made: this user may not write to {folder}"
    return ""
