"""Finds the runtime's socket where runtimes put it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.errors import SeveralRuntimesError

KNOWN_SOCKETS: tuple[str, ...] = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/var/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
)
"""Where containerd, CRI-O, cri-dockerd and k3s listen unless told otherwise."""

CONNECT_TIMEOUT_S = 0.5
"""A local socket accepts or refuses at once; only a full backlog makes it wait."""


def detect_socket(candidates: Sequence[str] = KNOWN_SOCKETS) -> str:
    """The one runtime socket among `candidates`, which are paths; first spelling wins.

    A socket that nobody listens on counts only if no other is listened on: it is what a
    stopped runtime leaves behind. Raises RuntimeUnavailableError when there is none, and
    its subclass SeveralRuntimesError when there is more than one.
    """
    present = _distinct([path for path in candidates if _is_socket(path)])
    if not present:
        raise RuntimeUnavailableError(
            f"no container runtime found: there is no socket at {', '.join(candidates)};"
            " start the runtime, or set `cri:` in the configuration to its socket"
        )
    if len(present) > 1:
        present = [path for path in present if _listened_on(path)] or present
    if len(present) > 1:
        raise SeveralRuntimesError(tuple(present))
    return present[0]


def socket_doubt(path: str | None) -> str:
    """Why no runtime answers at `path`, or is found where it is None; "" when one may."""
    if path is None:
        try:
            detect_socket()
        except RuntimeUnavailableError as error:
            return str(error)
        return ""
    if not os.path.exists(path):
        return f"there is no such socket: {path}"
    if not _is_socket(path):
        return f"{path} is no socket"
    return "" if _listened_on(path) else f"nobody listens at {path}: is the runtime running?"


def _distinct(paths: Sequence[str]) -> list[str]:
    """`paths` without those that lead to one already listed (/var/run is a link to /run)."""
    by_real_path: dict[str, str] = {}
    for path in paths:
        by_real_path.setdefault(os.path.realpath(path), path)
    return list(by_real_path.values())


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _listened_on(path: str) -> bool:
    """False only when the kernel says that nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # such as no permission, or a full backlog: somebody is there
    return True
