"""install-service --wire-runtime on a machine with systemd, a stock containerd and a named hub."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import images, systemd_tree
from tests.e2e.support.authority import issue_certificate
from tests.e2e.support.containerd import DEBIAN, NEWEST, Release
from tests.e2e.support.network import Link
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.systemd_tree import Done, Machine, snapshot

pytestmark = pytest.mark.e2e

LOGIN = "admin:pass:word"
HUB_NAME, PRIVATE_NAME = "sealos.hub", "private.hub"
CONFIG = "/etc/image-cri-shim.yaml"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
SHIM = "unix:///run/image-cri-shim.sock"
CONTAINERD = "unix:///run/containerd/containerd.sock"
PLACES = ("/etc", "/usr/local/share", "/var/lib/image-cri-shim")
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
    process.push(images.busybox("busybox"), "library/busybox", "1.36")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def private(link: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """https with a certificate of an authority that nobody knows."""
    folder = tmp_path_factory.mktemp("private")
    certificate = issue_certificate(folder / "pki", ip=link.ip, name=PRIVATE_NAME)
    process = Registry(folder, certificate=certificate, ip=link.ip, name=PRIVATE_NAME)
    process.serve()
    process.push(images.busybox("private"), "team/app", "1")
    yield process
    process.stop()


@contextlib.contextmanager
def booted(release: Release, link: Link, config: str | None) -> Iterator[Machine]:
    """A machine with that containerd, as it comes."""
    machine = Machine()
    try:
        (machine.unpacked / "usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(release.programs / "containerd", machine.unpacked / "usr/bin/containerd")
        crictl = shutil.which("crictl")
        assert crictl is not None
        shutil.copy(crictl, machine.unpacked / "usr/local/bin/crictl")
        (machine.unpacked / "var/lib/containerd").mkdir(parents=True)
        machine.add("/etc/hosts", f"127.0.0.1 localhost\n{link.ip} {HUB_NAME} {PRIVATE_NAME}\n")
        machine.add("/etc/systemd/system/containerd.service", UNIT)
        if config is not None:
            machine.add(CONTAINERD_CONFIG, config)
        machine.boot()
        plug(link, machine)
        machine.systemctl("start", "containerd.service")
        wait_for("CRI", lambda: crictl_says(machine, "version").returncode == 0, 30)
        yield machine
    finally:
        machine.close()


def crictl_says(machine: Machine, *words: str, endpoint: str = CONTAINERD) -> Done:
    return machine.run("crictl", "--timeout", "30s", "-r", endpoint, "-i", endpoint, *words)


def command(machine: Machine, *arguments: str) -> Done:
    return machine.run("image-cri-shim", *arguments, timeout_s=120)


@pytest.mark.parametrize(
    ("stock", "config"),
    [
        pytest.param(DEBIAN, DEBIAN_CONFIG, id="debian"),
        pytest.param(NEWEST, None, id="newest-without-a-configuration"),
    ],
)
def test_a_stock_containerd_pulls_from_a_named_hub(
    link: Link, hub: Registry, private: Registry, stock: Release, config: str | None
) -> None:
    """Not before, then it does, from both registries; twice is once; back to the last byte."""
    if missing := stock.missing():
        refuse("needs " + ", ".join(missing))
    with booted(stock, link, config) as machine:
        assert private.certificate is not None
        machine.add("/etc/hub-ca.pem", Path(private.certificate.ca).read_text())
        machine.add(
            CONFIG,
            f"address: {hub.address}\nauth: {LOGIN}\nregistries:\n"
            f"- {{address: '{private.address}', caFile: /etc/hub-ca.pem}}\n",
            0o600,
        )
        before = snapshot(machine, ("/etc", "/usr/local/share"))
        name = f"{hub.host}/library/busybox:1.36"
        refused = crictl_says(machine, "pull", "--creds", LOGIN, name)
        assert refused.returncode != 0
        assert "HTTP response to HTTPS client" in refused.stderr

        shown = command(machine, "install-service", "--wire-runtime", "--dry-run")
        assert shown.returncode == 0, shown.stderr
        assert f'+[host."{hub.address}"]' in shown.stdout
        assert snapshot(machine, ("/etc", "/usr/local/share")) == before

        started = machine.shows("containerd.service", "MainPID")
        done = command(machine, "install-service", "--wire-runtime", "--now")
        assert done.returncode == 0, done.stdout + done.stderr
        assert machine.shows("containerd.service", "MainPID") != started
        for image in ("busybox:1.36", "team/app:1"):
            pulled = crictl_says(machine, "pull", image, endpoint=SHIM)
            assert pulled.returncode == 0, pulled.stderr
        direct = crictl_says(machine, "pull", "--creds", LOGIN, name)
        assert direct.returncode == 0, direct.stderr

        after = snapshot(machine, PLACES)
        started = machine.shows("containerd.service", "MainPID")
        again = command(machine, "install-service", "--wire-runtime", "--now")
        assert again.returncode == 0, again.stderr
        assert "installed already" in again.stdout
        assert machine.shows("containerd.service", "MainPID") == started
        assert snapshot(machine, ("/etc",)) == {
            path: each for path, each in after.items() if path.startswith("/etc")
        }

        back = command(machine, "uninstall-service")
        assert back.returncode == 0, back.stderr
        assert snapshot(machine, ("/etc", "/usr/local/share")) == before
        assert not machine.place("/var/lib/image-cri-shim").exists()
        wait_for("CRI", lambda: crictl_says(machine, "version").returncode == 0, 30)
        assert crictl_says(machine, "pull", "--creds", LOGIN, name).returncode != 0


def test_a_containerd_that_does_not_come_back(link: Link, hub: Registry) -> None:
    """Its configuration is as it was, it serves again, and nothing else was started."""
    with booted(DEBIAN, link, DEBIAN_CONFIG) as machine:
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
