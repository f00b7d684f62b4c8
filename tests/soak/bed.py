"""The processes of the soak: shim, runtime, registry. The runtime is a stand-in or containerd."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.support.containerd import Containerd
from tests.support import raw
from tests.support.serving import ServeProcess

ROOT = Path(__file__).resolve().parents[2]


# Where docker.io would be: nobody listens on the discard port.
NOWHERE = "http://127.0.0.1:9"


class Killable(Protocol):
    """A process that can be killed and started again; neither waits until it serves."""

    def start(self) -> object: ...
    def kill(self) -> object: ...
    def signal(self, number: signal.Signals) -> None: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """A call that any healthy runtime answers, and what its answer has in it."""

    path: str
    request: bytes
    answer: bytes


class Child:
    """A process of this project's own."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
            )

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Bed:
    """All of them, in one folder; `registry` is an URL."""

    def __init__(self, folder: Path, port: int, *, containerd: bool = False) -> None:
        self.folder = folder
        self.registry = f"http://127.0.0.1:{port}"
        self.journal = folder / "journal"
        self.clock = folder / "clock-offset"
        self.state = folder / "state"
        self.state.mkdir()
        self.journal.touch()
        python = [sys.executable, "-m"]
        self.containerd: Containerd | None = None
        self.runtime: Killable
        if containerd:
            self.probe = Probe("/runtime.v1.RuntimeService/Version", b"", b"containerd")
            self.containerd = Containerd(folder / "containerd", sandbox_image="pause")
            self.containerd.route(self.registry.partition("://")[2], self.registry)
            self.containerd.route("docker.io", NOWHERE)
            self.runtime, socket = self.containerd, self.containerd.socket
        else:
            self.probe = Probe(raw.ECHO, b"probe", b"probe")
            socket = folder / "runtime.sock"
            module = [*python, "tests.soak.runtime"]
            self.runtime = Child(
                [*module, str(socket), self.registry, str(self.journal)], folder / "runtime.log"
            )
        self.registry_process = Child(
            [*python, "tests.soak.registry", str(port)], folder / "registry.log"
        )
        self.shim = ServeProcess(
            folder,
            socket,
            address=self.registry,
            stateDir=str(self.state),
            reloadInterval="1s",
            timeout="25s",
            force=True,
        )

    def start(self) -> None:
        self.registry_process.start()
        self.runtime.start()
        self.start_shim()

    def start_shim(self, *, wait: bool = True) -> None:
        """Start it; returns when it serves (unless not `wait`)."""
        path = f"{ROOT}:{ROOT / 'tests' / 'soak' / 'clock'}"
        self.shim.start(wait=wait, env={"SOAK_CLOCK": str(self.clock), "PYTHONPATH": path})

    def close(self) -> None:
        self.shim.kill()
        for child in (self.runtime, self.registry_process):
            child.kill()
        if self.containerd is not None:
            self.containerd.close()
        self.unmount()

    # -- the shim, seen from outside -----------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.shim.process is not None
        return self.shim.process.pid

    def shim_ended(self) -> bool:
        """Whether it does not run any more."""
        return self.shim.process is None or self.shim.process.poll() is not None

    def files(self) -> int:
        """Descriptors that the shim has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_mib(self) -> float:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)

    # -- a disk that fills ---------------------------------------------------------------

    def mount_small(self) -> None:
        """64 KiB under stateDir, all of it used. Needs root."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", self.state], check=True)
        with contextlib.suppress(OSError), (self.state / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
                ballast.flush()

    def unmount(self) -> None:
        if os.path.ismount(self.state):
            subprocess.run(["umount", "--lazy", self.state], check=False)
