"""The process behind a unix socket."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shimcore.unixsocket import connected

COMMAND_LIMIT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that listens: its number, and its command line ([] where it is not told)."""

    pid: int
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """The program's name."""
        return os.path.basename(self.command[0]) if self.command else "unknown"

    @property
    def is_containerd(self) -> bool:
        """Whether it is a containerd."""
        return _is_containerd(self.command)

    @property
    def program(self) -> Path:
        """Where its program can be read."""
        return Path(f"/proc/{self.pid}/exe")

    @property
    def environ(self) -> dict[str, str] | None:
        """What it was started with; None where that cannot be seen."""
        try:
            given = Path(f"/proc/{self.pid}/environ").read_bytes()
        except OSError:
            return None
        pairs = (each.partition("=") for each in given.decode(errors="replace").split("\0"))
        return {name: value for name, _, value in pairs if name}


def peer_of(path: str) -> Peer | None:
    """Who listens on a unix socket (unix(7), SO_PEERCRED); None where nobody does."""
    size = struct.calcsize("3i")
    try:
        with connected(path) as probe:
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    except OSError:
        return None
    try:
        with open(f"/proc/{pid[0]}/cmdline", "rb") as file:
            words = os.fsdecode(file.read(COMMAND_LIMIT_BYTES)).split("\0")[:-1]
    except OSError:
        words = []
    return Peer(pid[0], tuple(words))


def containerd_file(command: Sequence[str]) -> str:
    """What a containerd was told by `-c FILE`, `--config FILE` or `--config=FILE`; else ""."""
    if not _is_containerd(command):
        return ""
    for word, after in pairwise((*command, "")):
        name, equals, value = word.partition("=")
        if name in {"-c", "--config", "-config"}:
            return value if equals else after
    return ""


def _is_containerd(command: Sequence[str]) -> bool:
    return bool(command) and os.path.basename(command[0]).startswith("containerd")
