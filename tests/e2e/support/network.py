"""An address of the tests' own that is not on 127.0.0.1, and a name for it."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Of this process, so that two have names and addresses of their own.
_made = itertools.count()


class Link:
    """A bridge without ports whose address, `ip`, is reached from this machine alone.

    Its name and subnet come from the process id: two runs on one machine stay apart. So do `pods`,
    addresses for the pods of nodes that are joined to it.
    """

    def __init__(self) -> None:
        serial = (os.getpid() * 8 + next(_made)) % 4096
        self.name = f"hub{serial}"
        self.ip = f"10.{224 + serial // 256}.{serial % 256}.1"
        self.pods = f"10.{128 + serial // 64}.{serial % 64 * 4}.0/22"
        _ip("link", "add", self.name, "type", "bridge")
        _ip("address", "add", f"{self.ip}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def route(self, subnet: str, gateway: str) -> None:
        """Reach a subnet by somebody on the link, until that is closed."""
        _ip("route", "replace", subnet, "via", gateway, "dev", self.name)

    def close(self) -> None:
        """Takes it away."""
        _ip("link", "delete", self.name)


def with_hosts(hosts: Path, command: Sequence[str | Path]) -> list[str]:
    """The command in a mount namespace where `hosts` is /etc/hosts; its process id is the same.

    What it mounts is seen by its own children alone.
    """
    mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, str(hosts), *map(str, command)]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
