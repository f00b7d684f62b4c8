"""A booted Debian that has rpm beside dpkg; no Python, no network and nothing of the project's.

The stand-in runtime and the hub run outside of it, in its network and at its socket.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from .process import Process
from .systemd_tree import BASE, Machine, unpacked

PACKAGES = "systemd,systemd-sysv,rpm"
NODE = Path(__file__).with_name("systemd_node.py")


class BareMachine(Machine):
    """One boot of the bare tree of a Debian release."""

    def __init__(self, suite: str) -> None:
        self._suite = suite
        super().__init__()

    def _install(self) -> None:
        """Nothing."""

    def _base(self) -> Path:
        return unpacked(BASE.with_name(f"bare-{self._suite}-2"), PACKAGES, self._suite)

    def _packages(self) -> str:
        return ""

    def put(self, source: Path, directory: str = "/root") -> str:
        """The path on the machine of a copy of a file."""
        path = f"{directory}/{source.name}"
        self.place(path).write_bytes(source.read_bytes())
        return path

    def names(self) -> set[str]:
        """Everything below /etc, /opt, /root, /usr and /var, but for dpkg's and systemd's books."""
        books = ("/var/lib/dpkg/", "/var/log/", "/var/lib/systemd/timers", "/var/cache/")
        found = {
            "/" + str(place.relative_to(self.root))
            for top in ("/etc", "/opt", "/root", "/usr", "/var")
            for place in self.place(top).rglob("*")
        }
        return {name for name in found if not name.startswith(books)}

    @contextlib.contextmanager
    def node(self) -> Iterator[None]:
        """The runtime and the hub (127.0.0.1:5000, as admin) run."""
        network = f"--net={self.root.parent / 'ns/net'}"
        command: list[str | Path] = ["nsenter", network, "--", sys.executable, NODE, self.root]
        process = Process("runtime and hub", command, self.directory / "node.log")
        process.start(self.place("/run/containerd/containerd.sock").exists)
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def bare_machine(suite: str = "bookworm") -> Iterator[BareMachine]:
    """A booted machine."""
    machine = BareMachine(suite)
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()
