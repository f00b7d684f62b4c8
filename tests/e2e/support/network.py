"""A link of the tests' own for pods and for a hub that is not on 127.0.0.1; and its name."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class PodNetwork:
    """A bridge with an address of its own: pods' network by CNI, and where a hub may listen.

    Name and subnet come from the process id, so that two runs on one machine stay apart.
    """

    def __init__(self) -> None:
        serial = os.getpid() % 4096
        self.bridge = f"e2e{serial}"
        self.subnet = ipaddress.ip_network(f"10.{224 + serial // 256}.{serial % 256}.0/24")
        self.ip = str(self.subnet[1])
        self._ip("link", "add", self.bridge, "type", "bridge")
        self._ip("address", "add", f"{self.ip}/24", "dev", self.bridge)
        self._ip("link", "set", self.bridge, "up")

    def close(self) -> None:
        """Takes the bridge away; what pods still have of it ends with them."""
        self._ip("link", "delete", self.bridge)

    def conflist(self, leases: Path) -> str:
        """CNI's configuration of it; the folder `leases` keeps which pod has which address."""
        plugin = {
            "type": "bridge",
            "bridge": self.bridge,
            "ipam": {
                "type": "host-local",
                "dataDir": str(leases),
                "ranges": [[{"subnet": str(self.subnet)}]],
            },
        }
        return json.dumps({"cniVersion": "0.4.0", "name": self.bridge, "plugins": [plugin]})

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


def with_hosts(hosts: Path, command: Sequence[str | Path]) -> list[str]:
    """The command in a mount namespace where `hosts` is /etc/hosts; its process id is the same.

    What it mounts is seen by its own children alone.
    """
    mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, str(hosts), *map(str, command)]
