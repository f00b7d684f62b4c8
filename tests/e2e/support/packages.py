"""The packages of these sources, and what is done with them on a machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.e2e.conftest import refuse

from . import systemd_tree
from .bare_tree import BareMachine, bare_machine
from .process import alone
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


@cache
def built() -> Path:
    """The folder with the packages, built when they are not there.

    With the Python that is published, if it has been compiled here already: it takes a quarter of
    an hour. Else with this machine's, on whose own release the packages then run.
    """
    compiled = subprocess.run(
        [PROJECT / "packaging/python/build", "--cached"], capture_output=True, check=False
    )
    if compiled.returncode == 0:
        return _make("dist", "dist", 900)
    return _make("dist-quick", QUICK, 900)


@cache
def published() -> Path:
    """The folder with the packages as they are published; the first time Python is compiled."""
    return _make("dist", "dist", 3600)


def _make(target: str, folder: str, timeout_s: float) -> Path:
    lacking = systemd_tree.missing()
    if lacking:
        refuse("needs " + ", ".join(lacking))
    command = ["make", target]
    with alone(PROJECT / ".cache" / target):
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, timeout=timeout_s, check=False
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
