"""Processes under measurement: started, asked for their CPU time and memory, ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_STOP_S = 10.0


class Process:
    """A running program whose output goes to a file."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env)
            )
        self.log = log

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU time of all its threads so far: utime + stime, to the nanosecond.

        The clock's ID is what clock_getcpuclockid(3) makes of a process ID.
        """
        return time.clock_gettime((~self.pid << 3) | 2)

    def rss_mib(self) -> float:
        """Resident memory now (VmRSS of proc_pid_status(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        """End it with SIGTERM, and by force if that takes long."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
