"""Tells systemd how the service is (sd_notify(3)). Without systemd, every call does nothing."""

from __future__ import annotations

import contextlib
import os
import socket

from shimcore.lines import printable

# systemd reads at once; one that does not must not stop the loop.
_WAIT_S = 0.2


def is_of_systemd() -> bool:
    """Whether systemd started this process (systemd.exec(5)), or the one that handed over to it."""
    named = (os.environ.get("LISTEN_PID"), os.environ.get("SYSTEMD_EXEC_PID"))
    return bool(os.environ.get("NOTIFY_SOCKET")) or str(os.getpid()) in named


def notify(*states: str) -> None:
    """Send `NAME=value` lines to the manager that started this process, each one line."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # The manager may be gone, or not read; or no descriptor is left.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.settimeout(_WAIT_S)
        manager.sendto("\n".join(map(printable, states)).encode(), address)
