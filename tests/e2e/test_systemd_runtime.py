"""install-service --wire-runtime on a machine whose containerd does not come back with it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.containerd import DEBIAN
from tests.e2e.support.network import Link
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.systemd_tree import Done, Machine

pytestmark = pytest.mark.e2e

LOGIN = "admin:pass:word"
HUB_NAME = "sealos.hub"
CONFIG = "/etc/image-cri-shim.yaml"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
CONTAINERD = "unix:///run/containerd/containerd.sock"
COMPONENTS = ("docker-registry", "htpasswd", "crictl", "ip")
UNIT = """\
[Service]
ExecStartPre=-/bin/mount -t tmpfs tmpfs /var/lib/containerd
ExecStart=/usr/bin/containerd
Type=notify
KillMode=process
"""
# As Debian's package has it.
DEBIAN_CONFIG = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
"""


def plug(link: Link, machine: Machine) -> None:
    """Join the machine to the bridge; its end goes with it."""
    network = machine.root.parent / "ns/net"
    port, end = f"{link.name}a", f"{link.name}b"
    inside = ["nsenter", f"--net={network}", "ip"]
    for words in (
        ["ip", "link", "add", port, "type", "veth", "peer", "name", end],
        ["ip", "link", "set", port, "master", link.name, "up"],
        ["ip", "link", "set", end, "netns", network.parts[2]],
        [*inside, "link", "set", "lo", "up"],
        [*inside, "address", "add", f"{link.ip.rpartition('.')[0]}.2/24", "dev", end],
        [*inside, "link", "set", end, "up"],
    ):
        subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    """The address of the registries, here, which the machine reaches."""
    missing = [name for name in COMPONENTS if shutil.which(name) is None]
    if missing := [*missing, *systemd_tree.missing(), *DEBIAN.missing()]:
        refuse("needs " + ", ".join(missing))
    made = Link()
    yield made
    made.close()


@pytest.fixture(scope="module")
def hub(link: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Plain http, with a login, under a name that is no loopback address."""
    folder = tmp_path_factory.mktemp("hub")
    process = Registry(folder, login=LOGIN, ip=link.ip, name=HUB_NAME)
    process.serve()
    yield process
    process.stop()


@contextlib.contextmanager
def booted(link: Link) -> Iterator[Machine]:
    """A machine with Debian's containerd, as it comes."""
    machine = Machine()
    try:
        (machine.unpacked / "usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(DEBIAN.programs / "containerd", machine.unpacked / "usr/bin/containerd")
        crictl = shutil.which("crictl")
        assert crictl is not None
        shutil.copy(crictl, machine.unpacked / "usr/local/bin/crictl")
        (machine.unpacked / "var/lib/containerd").mkdir(parents=True)
        machine.add("/etc/hosts", f"127.0.0.1 localhost\n{link.ip} {HUB_NAME}\n")
        machine.add("/etc/systemd/system/containerd.service", UNIT)
        machine.add(CONTAINERD_CONFIG, DEBIAN_CONFIG)
        machine.boot()
        plug(link, machine)
        machine.systemctl("start", "containerd.service")
        wait_for("CRI", lambda: crictl_says(machine, "version").returncode == 0, 30)
        yield machine
    finally:
        machine.close()


def crictl_says(machine: Machine, *words: str) -> Done:
    return machine.run("crictl", "--timeout", "30s", "-r", CONTAINERD, "-i", CONTAINERD, *words)


def command(machine: Machine, *arguments: str) -> Done:
    return machine.run("image-cri-shim", *arguments, timeout_s=120)


def test_a_containerd_that_does_not_come_back(link: Link, hub: Registry) -> None:
    """Its configuration is as it was, it serves again, and nothing else was started."""
    with booted(link) as machine:
        machine.add(CONFIG, f"address: {hub.address}\nauth: {LOGIN}\n", 0o600)
        program = machine.place("/usr/bin/containerd")
        program.rename(program.with_name("containerd.real"))
        machine.add(
            "/usr/bin/containerd",
            "#!/bin/sh\n! grep -q config_path /etc/containerd/config.toml || exit 1\n"
            'exec /usr/bin/containerd.real "$@"\n',
            0o755,
        )
        done = command(machine, "install-service", "--wire-runtime", "--now")
        assert done.returncode == 1
        assert f"{CONTAINERD_CONFIG}" in done.stderr
        assert "is as it was" in done.stderr
        assert machine.place(CONTAINERD_CONFIG).read_text() == DEBIAN_CONFIG
        wait_for("CRI", lambda: crictl_says(machine, "version").returncode == 0, 30)
        assert machine.shows("image-cri-shim.service", "ActiveState") == "inactive"
        assert command(machine, "uninstall-service").returncode == 0
