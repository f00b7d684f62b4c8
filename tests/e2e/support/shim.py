"""The real console command `image-cri-shim`, run as operators run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .process import Process, unix_answers

COMMAND = Path(sys.executable).parent / "image-cri-shim"


class Shim(Process):
    """`image-cri-shim -f FILE serve`, its socket, config and log in `directory`."""

    def __init__(self, directory: Path, runtime: Path, config: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.socket = directory / "shim.sock"
        self.config = directory / "shim.yaml"
        self.values: dict[str, Any] = {
            "shim": str(self.socket),
            "cri": f"unix://{runtime}",
            "stateDir": str(directory / "state"),
            "timeout": "60s",
            "reloadInterval": "1s",
            **config,
        }
        self.write(self.values)
        super().__init__("shim", [COMMAND, "-f", self.config, "serve"], directory / "log")

    def write(self, values: Mapping[str, Any]) -> None:
        self.config.touch(mode=0o600)
        self.config.write_text(yaml.safe_dump(dict(values), sort_keys=False))

    def serve(self, timeout_s: float = 20) -> float:
        """Seconds until it serves and has said so."""
        began = self.log.stat().st_size if self.log.exists() else 0
        serves = f"serving {self.socket} for ".encode()
        return self.start(
            lambda: unix_answers(self.socket) and serves in self.log.read_bytes()[began:], timeout_s
        )


def run_shim(*arguments: str | Path, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """One run of the command to its end."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s
    )
