"""A bridge network of the tests' own for pods, with ports of the host; gone when closed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Bridge:
    """`config` is what containerd reads; the plugins make the bridge with the first pod."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = f"e2e{os.getpid()}"
        self.config = json.dumps(_network(self.name, directory))
        self._forwarding = FORWARDING.read_text()
        self._chains = _port_chains()

    def close(self) -> None:
        """Takes back what the plugins leave when the last pod is gone."""
        _run("ip", "link", "delete", self.name)
        for chain in _port_chains() - self._chains:
            for rule in map(shlex.split, _rules()):
                if rule[-2:] == ["-j", chain]:
                    _run("iptables", "-t", "nat", "-D", *rule[1:])
            _run("iptables", "-t", "nat", "-F", chain)
        for chain in _port_chains() - self._chains:
            _run("iptables", "-t", "nat", "-X", chain)
        FORWARDING.write_text(self._forwarding)


def _network(name: str, directory: Path) -> dict[str, object]:
    """A CNI configuration list; two runs on one machine have networks that differ."""
    subnet = f"10.249.{os.getpid() % 256}.0/24"
    bridge = {
        "type": "bridge",
        "bridge": name,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory / "addresses"),
            "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": name, "plugins": [bridge, ports]}


def _rules() -> list[str]:
    return _run("iptables", "-t", "nat", "-S").splitlines()


def _port_chains() -> set[str]:
    """The chains of the portmap plugin."""
    return {rule.split()[1] for rule in _rules() if rule.startswith("-N CNI-")}


def _run(*command: str) -> str:
    """What it prints; whatever is gone already need not be taken away."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
