"""The real `serve` as a process between a stand-in runtime and a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import yaml

COMMAND = (sys.executable, "-c", "from cli.main import run; run()")
START_S = 20.0


class ServeProcess:
    """`serve` with a configuration of its own in `folder`; its log is `folder/log`."""

    def __init__(self, folder: Path, runtime: Path | str, **keys: object) -> None:
        self.folder = folder
        self.socket = str(folder / "shim.sock")
        self.file = folder / "config.yaml"
        self.log_file = folder / "log"
        self.keys: dict[str, object] = {
            "shim": self.socket,
            "cri": str(runtime),
            "address": "http://127.0.0.1:9",
            "stateDir": str(folder / "state"),
            **keys,
        }
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self, **keys: object) -> None:
        """Write the configuration, with these keys changed."""
        self.keys.update(keys)
        self.write_text(yaml.safe_dump(self.keys))

    def write_text(self, text: str) -> None:
        """Put any text in the configuration's place, as an editor does."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.replace(self.file)

    def start(self, *, wait: bool = True, env: dict[str, str] | None = None) -> None:
        """Start it; returns once it serves and has said so (unless not `wait`)."""
        with self.log_file.open("ab") as log:
            began = log.tell()
            self.process = subprocess.Popen(
                [*COMMAND, "-f", str(self.file), "serve"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=self.folder,
            )
        if wait:
            serves = f"serving {self.socket} for ".encode()
            wait_for(
                lambda: self.accepts() and serves in self.log_file.read_bytes()[began:],
                START_S,
                lambda: f"the shim does not serve:\n{self.log}",
            )

    async def run_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command with the same configuration, to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "-f", str(self.file), *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def accepts(self) -> bool:
        """Whether somebody listens at the socket."""
        assert self.process is not None
        assert self.process.poll() is None, f"the shim has ended:\n{self.log}"
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
            except OSError:
                return False
        return True

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text(errors="replace")

    def wait_log(self, text: str, timeout_s: float = START_S) -> None:
        """Wait until the log has `text`."""
        wait_for(lambda: text in self.log, timeout_s, lambda: f"{text!r} not in:\n{self.log}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 45.0) -> int:
        """The exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.asynccontextmanager
async def serving(
    folder: Path, runtime: Path | str, *, wait: bool = True, **keys: object
) -> AsyncIterator[ServeProcess]:
    """A started shim, killed at the end; `wait` until it serves."""
    process = ServeProcess(folder, runtime, **keys)
    try:
        await asyncio.to_thread(process.start, wait=wait)
        yield process
    finally:
        process.kill()


def wait_for(done: object, timeout_s: float, failure: object) -> None:
    """Poll `done` until it is true; AssertionError with `failure()` after `timeout_s`."""
    assert callable(done)
    assert callable(failure)
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.02)
