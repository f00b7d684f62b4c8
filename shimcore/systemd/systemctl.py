"""systemd of this machine, by its own command."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Protocol

from shimcore.errors import ShimError


class ServiceControl(Protocol):
    """What the installation asks of systemd."""

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Run `systemctl arguments…`. Raises ShimError when it fails or takes too long."""

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs, starts or reloads."""


class Systemctl:
    """The `systemctl` of a machine that systemd runs."""

    def run(self, *arguments: str, timeout_s: float | None = None) -> None:
        """Run `systemctl arguments…`. Raises ShimError when it fails or takes too long."""
        try:
            done = _systemctl(*arguments, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ShimError(
                f"systemctl {' '.join(arguments)}: not done after {timeout_s:.0f} s; "
                f"look at systemctl status {arguments[-1]}"
            ) from error
        if done.returncode:
            raise ShimError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs, starts or reloads."""
        done = _systemctl("is-active", unit)
        return done.stdout.strip() in ("active", "activating", "reloading")


def main_process(unit: str) -> int:
    """The number of the unit's process on this machine; 0 while it has none."""
    said = _systemctl("show", "--property=MainPID", "--value", unit).stdout.strip()
    return int(said) if said.isdigit() else 0


def began_ticks(process: Path) -> int:
    """When a process (`/proc/PID`) began, after the boot (proc(5): field 22 of stat).

    Raises OSError, ValueError and IndexError where that cannot be told.
    """
    return int((process / "stat").read_text().rpartition(")")[2].split()[19])


def began_at(process: Path) -> float:
    """When it began, in seconds since 1970. Raises the same."""
    uptime_s = float((process.parent / "uptime").read_text().split()[0])
    return time.time() - uptime_s + began_ticks(process) / os.sysconf("SC_CLK_TCK")


def _systemctl(*arguments: str, timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - unit names of this package's own
        ["systemctl", "--no-ask-password", *arguments],  # noqa: S607 - root's own PATH
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def this_machine() -> ServiceControl:
    """systemd of the running machine. Raises ShimError when something else runs it."""
    # sd_booted(3)
    if not os.path.isdir("/run/systemd/system") or shutil.which("systemctl") is None:
        raise ShimError(
            "systemd does not run this machine; start `image-cri-shim serve` by what does, "
            "or prepare an image with --root DIR"
        )
    return Systemctl()
