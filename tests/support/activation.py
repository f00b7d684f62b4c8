"""What systemd does for the service, as far as a hand-over needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from tests.support.serving import ServeProcess, wait_for

_START = 'exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'


class ActivatedService(ServeProcess):
    """`serve` with a socket that outlives it, and a place to which it says how it is."""

    def __init__(self, folder: Path, runtime: Path | str, **keys: object) -> None:
        super().__init__(folder, runtime, **keys)
        self.command = self.make_command("image-cri-shim")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.socket)
        self._listening.listen(512)
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._manager.bind(str(folder / "notify"))
        self._said: list[str] = []
        self.pids: list[int] = []

    def make_command(self, name: str, before: str = "") -> str:
        """A console command; `before` are lines that it runs first."""
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\n{before}\nfrom cli.main import run\nrun()\n")
        path.chmod(0o755)
        return str(path)

    def start(self, *, wait: bool = True, env: dict[str, str] | None = None) -> None:
        """Start the first process, as systemd does."""
        arguments = [self.command, "serve", "--file", str(self.file)]
        notify = {"NOTIFY_SOCKET": str(self.folder / "notify")}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _START, "sh", *arguments],
                stdin=self._listening.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **notify, **(env or {})},
                cwd=self.folder,
            )
        self.pids.append(self.process.pid)
        if wait:
            wait_for(lambda: "READY=1" in self.said, 20, lambda: f"not ready:\n{self.log}")

    @property
    def said(self) -> list[str]:
        """Every line that came to the manager's socket so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._said += self._manager.recv(4096).decode().split("\n")
        return self._said

    @property
    def main_pid(self) -> int:
        """The process that is the main one, as the service has said last."""
        for line in self.said:
            name, _, value = line.partition("=")
            if name == "MAINPID" and int(value) not in self.pids:
                self.pids.append(int(value))
        return self.pids[-1]

    def close(self) -> None:
        """End every process of it, and the socket."""
        _ = self.main_pid
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kill()
        self._listening.close()
        self._manager.close()

    @property
    def inode(self) -> int:
        """Of the socket at the path."""
        status = os.stat(self.socket)
        assert stat.S_ISSOCK(status.st_mode)
        return status.st_ino


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def wait_gone(pid: int, timeout_s: float) -> None:
    """Until the process has ended."""
    deadline = time.monotonic() + timeout_s
    while alive(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.05)
