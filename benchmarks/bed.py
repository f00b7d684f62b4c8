"""What a measurement runs on: a runtime, three registries, and the variants between them."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Process
from benchmarks.programs import BUILT, COMPILED, program

DELAY_MS = 20
_CONFIG = """\
shim: {folder}/{name}.sock
cri: {folder}/runtime.sock
address: {registries[0]}
registries:
- address: {registries[1]}
  priority: 600
- address: {registries[2]}
  priority: 500
names: registry
stateDir: {folder}/{name}.state
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from the client to the runtime."""

    name: str
    title: str
    answers_pulls: bool = False
    """Whether it looks for the image that a pull asks for."""
    long_run: bool = False
    """Whether its memory is worth a million calls."""


DIRECT = Variant("direct", "direct")
SPLICE = Variant("splice", "byte splice")
SHIM = Variant("shim", "shim", answers_pulls=True, long_run=True)
SHIM_PURE = Variant("shim-pure", "shim, not compiled", answers_pulls=True)
GRPCIO = Variant("grpcio", "grpcio proxy")
GO = Variant("go", "Go proxy", answers_pulls=True, long_run=True)
VARIANTS = (DIRECT, SPLICE, SHIM, SHIM_PURE, GRPCIO, GO)


@dataclass(slots=True)
class Bed:
    """Everything that runs, in one folder."""

    folder: Path
    registries: list[str] = field(default_factory=list)
    running: dict[str, Process] = field(default_factory=dict)

    def socket(self, variant: Variant) -> str:
        """The socket that a client of `variant` calls."""
        name = "runtime" if variant is DIRECT else variant.name
        return str(self.folder / f"{name}.sock")

    def argv(self, variant: Variant) -> list[str]:
        """The command that starts it."""
        socket, runtime = self.socket(variant), self.socket(DIRECT)
        if variant is GO:
            flags = ["-socket", socket, "-runtime", runtime]
            return [program("go_proxy"), *flags, "-registries", ",".join(self.registries)]
        if variant in {SPLICE, GRPCIO}:
            return [sys.executable, "-m", f"benchmarks.proxies.{variant.name}", socket, runtime]
        config = self.folder / f"{variant.name}.yaml"
        config.write_text(
            _CONFIG.format(folder=self.folder, name=variant.name, registries=self.registries)
        )
        shim = Path(sys.executable).with_name("image-cri-shim")
        return [str(shim), "serve", "--file", str(config)]

    def start(self, variant: Variant) -> float:
        """Start it and return the seconds until its first answer."""
        env = _environment(variant)
        asking = subprocess.Popen(
            [program("load"), "-scenario", "ready", "-socket", self.socket(variant)],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.05)  # until it asks
        begun_ns = time.time_ns()
        argv = (
            [program("runtime"), self.socket(DIRECT)] if variant is DIRECT else self.argv(variant)
        )
        process = Process(argv, self.folder / f"{variant.name}.log", env)
        said, _ = asking.communicate()
        if asking.returncode:
            process.stop()
            raise RuntimeError(f"{variant.title} does not answer: {process.log.read_text()}")
        self.running[variant.name] = process
        return (int(said) - begun_ns) / 1e9

    def stop(self, variant: Variant) -> None:
        """End it."""
        self.running.pop(variant.name).stop()
        with contextlib.suppress(FileNotFoundError):
            Path(self.socket(variant)).unlink()

    def start_registries(self) -> None:
        """Start the three, DELAY_MS away."""
        log = self.folder / "registries.log"
        self.running["registries"] = Process(
            [program("registry"), "-delay", f"{DELAY_MS}ms"], log, os.environ
        )
        deadline = time.monotonic() + 10
        while len(self.registries) < 3:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the registries do not start: {log.read_text()}")
            time.sleep(0.02)
            self.registries = log.read_text().split()

    def close(self) -> None:
        """End everything, the runtime last."""
        for process in reversed(self.running.values()):
            process.stop()
        self.running.clear()


def _environment(variant: Variant) -> dict[str, str]:
    """Ours, with compiled modules kept: an installed package has them, and a start that compiles
    takes twice the time and some MiB more.
    """
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(BUILT / "pycache")
    if variant is SHIM:
        env["PYTHONPATH"] = str(COMPILED)
    return env


def allow_many_files() -> None:
    """Let this process and its children open as many files as root lets them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
