"""The packages of these sources, and what is done with them on a machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tests.e2e.conftest import refuse

from . import systemd_tree
from .bare_tree import BareMachine, bare_machine
from .cri_client import CallError, CriClient
from .process import alone, wait_for
from .systemd_tree import PROJECT, Done

NAME = "image-cri-shim"
SERVICE = f"{NAME}.service"
SOCKET = f"{NAME}.socket"
BYPASS = f"{NAME}-bypass.service"
CONFIG = f"/etc/{NAME}.yaml"
HUB = "address: http://127.0.0.1:5000\nauth: admin:pass:word\nfallback: deny\n"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
KUBELET = {
    "/etc/systemd/system/kubelet.service": (
        f"[Service]\nExecStart=/usr/local/bin/kubelet --config={KUBELET_CONFIG}\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
    KUBELET_CONFIG: (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"
    ),
}
QUICK = ".cache/quick/dist"
HELD_S = 240
"""Longer than an upgrade takes, in the middle of which pulls are."""


@cache
def built() -> Path:
    """The folder with the packages, built when they are not there.

    With this machine's Python, on whose own release they then run, and packed fast: those that are
    published have tests of their own (make e2e-systems).
    """
    return _make("dist-quick", QUICK, 900)


@cache
def published() -> Path:
    """The folder with the packages as they are published; the first time Python is compiled.

    What Debian's archive has: a test publishes nothing.
    """
    return _make("dist", "dist", 7200, ALLOW_OLDER_SOURCES="1")


def _make(target: str, folder: str, timeout_s: float, **variables: str) -> Path:
    lacking = systemd_tree.missing()
    if lacking:
        refuse("needs " + ", ".join(lacking))
    command = ["make", target]
    with alone(PROJECT / ".cache" / target):
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"packages of `make {target}`")
    return PROJECT / folder


def booted(suite: str = "bookworm") -> Iterator[BareMachine]:
    """A Debian release without Python and without a network, with runtime and hub in its reach."""
    with bare_machine(suite) as machine:
        assert machine.run("sh", "-c", "command -v python3").returncode != 0
        interfaces = machine.run("cat", "/proc/net/dev").stdout.splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        with machine.node():
            yield machine


def states(machine: BareMachine) -> list[str]:
    """Of service and socket: enabled or not, running or not."""
    return [
        machine.run("systemctl", question, unit).stdout.strip()
        for unit in (SERVICE, SOCKET)
        for question in ("is-enabled", "is-active")
    ]


def shim(machine: BareMachine, *arguments: str, timeout_s: float = 60) -> Done:
    return machine.run(NAME, *arguments, timeout_s=timeout_s)


def configure(machine: BareMachine, text: str = HUB) -> None:
    machine.add(CONFIG, text, 0o600)


def main_pid(machine: BareMachine) -> str:
    return machine.shows(SERVICE, "MainPID")


def wire_kubelet(machine: BareMachine) -> None:
    """Have kubelet run, a stand-in that only waits, and the shim serve it."""
    for path, text in KUBELET.items():
        machine.add(path, text)
    machine.add("/usr/local/bin/kubelet", "#!/bin/sh\nexec sleep infinity\n", 0o755)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "kubelet.service")
    configure(machine)
    wired = shim(machine, "install-service", "--wire-kubelet", "--now")
    assert wired.returncode == 0, wired.stderr
    assert f"/run/{NAME}.sock" in machine.place(KUBELET_CONFIG).read_text(), wired.stdout


@contextlib.contextmanager
def without_bundle(machine: BareMachine) -> Iterator[None]:
    """Meanwhile no process can load anything of the package's, as after its files were replaced."""
    bundle = machine.place(f"/usr/lib/{NAME}")
    bundle.rename(bundle.with_name("gone"))
    try:
        yield
    finally:
        bundle.with_name("gone").rename(bundle)


def outlives_its_files(machine: BareMachine, upgrade: Callable[[], str]) -> None:
    """After an upgrade in the middle of pulls the old process ends them, and itself, from memory.

    They are its first ones: one goes well, one fails at every registry, of which one is https.
    """
    configure(machine, f"{HUB}registries:\n  - address: https://localhost:5443\n")
    machine.systemctl("start", SERVICE)
    old = main_pid(machine)
    room = machine.place("/run/node")
    (room / "hold").touch()
    socket = machine.place(f"/run/{NAME}.sock")
    with CriClient(socket, timeout_s=HELD_S) as client, ThreadPoolExecutor(2) as pool:
        well, badly = (pool.submit(client.pull, image) for image in ("nginx", "absent:1"))
        wait_for("the pulls", (room / "pulling").exists, 60)
        assert "handed over" in upgrade()
        assert main_pid(machine) != old
        with without_bundle(machine):
            (room / "hold").unlink()
            assert well.result(HELD_S).startswith("sha256:")
            error = badly.exception(HELD_S)
            assert isinstance(error, CallError)
            assert "127.0.0.1:5000: absent" in error.details
            wait_for("its end", lambda: not machine.place(f"/proc/{old}").exists(), HELD_S)
            assert "absent:1" in (said := machine.journal(f"_PID={old}"))
            assert "stopped" in said
            for trouble in ("Traceback", "No module", "unexpected", "cannot import"):
                assert trouble not in said, said
    wait_for("the new process", lambda: shim(machine, "status").returncode == 0, 60)
