"""Tells systemd how the service is (sd_notify(3)). Without systemd, every call does nothing."""

from __future__ import annotations

import os
import socket


def notify(*states: str) -> None:
    """Send `NAME=value` lines to the manager that started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.sendto("\n".join(states).encode(), address)
        except OSError:
            return  # the manager is gone; nobody is left to be told
