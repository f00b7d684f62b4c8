"""Child processes of the tests: started, watched and ended by process id only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

POLL_S = 0.02


class NotReadyError(AssertionError):
    """A process that did not come up in time; the text ends with its log."""


def seldom(true: Callable[[], bool]) -> Callable[[], bool]:
    """Asked twice a second: each time costs a process or more."""

    def ask() -> bool:
        time.sleep(0.5)
        return true()

    return ask


def wait_for(what: str, ready: Callable[[], bool], timeout_s: float) -> float:
    """Seconds until `ready()` was true; NotReadyError after `timeout_s`."""
    started = time.monotonic()
    while not ready():
        if time.monotonic() - started > timeout_s:
            raise NotReadyError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)
    return time.monotonic() - started


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Meanwhile no other process makes the same `place`: tests run in several."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port(ip: str = "127.0.0.1") -> int:
    """A TCP port of that address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])


def tcp_answers(port: int, ip: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on that port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ip, port)) == 0


def unix_answers(path: Path) -> bool:
    """Whether something accepts connections on that Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == 0


class Process:
    """One child with its log file; a restart appends to the same log.

    The child dies with the test run (`setpriv --pdeathsig`), however that ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs (or was never started)."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool] | None = None, timeout_s: float = 20) -> float:
        """Seconds until `ready()`; NotReadyError when it ends first or takes too long."""
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(self._env or {})},
            )
        if ready is None:
            return 0.0
        try:
            return wait_for(self.name, lambda: not self.running or ready(), timeout_s)
        except NotReadyError as late:
            raise NotReadyError(f"{late}\n{self.tail()}") from late
        finally:
            if not self.running:
                raise NotReadyError(f"{self.name} ended with {self.exit_status}\n{self.tail()}")

    def stop(self, timeout_s: float = 15) -> int:
        """The exit status after SIGTERM; killed if it takes longer than `timeout_s`."""
        if self._child is None:
            return 0
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """The exit status (-9) after SIGKILL."""
        if self._child is None:
            return 0
        self.signal(signal.SIGKILL)
        return self._child.wait(10)

    def wait(self, timeout_s: float) -> int:
        """The exit status, once it ends by itself."""
        assert self._child is not None
        return self._child.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stopped (SIGSTOP) inside the block: accepts connections, answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def text(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 30) -> str:
        return "\n".join([f"--- {self.log}", *self.text().splitlines()[-lines:]])

    def open_files(self) -> int:
        """How many file descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def command_lines() -> dict[int, list[str]]:
    """Process id → arguments, for every process that can be read."""
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                raw = (entry / "cmdline").read_bytes()
                found[int(entry.name)] = raw.decode(errors="replace").split("\0")[:-1]
    return found


def descendants(roots: set[int]) -> set[int]:
    """Process ids below `roots`, the roots not included."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    while True:
        more = {pid for pid, parent in parents.items() if parent in roots | found} - found
        if not more:
            return found
        found |= more


def mounts_below(directory: Path) -> list[str]:
    """Mount points under `directory`, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(f"{directory}/")), reverse=True)
