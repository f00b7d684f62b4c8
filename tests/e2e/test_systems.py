"""The packages as they are published, on old and new systems: Debian's releases by their glibc."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import rpm
from tests.e2e.support.bare_tree import BareMachine
from tests.e2e.support.packages import (
    CONFIG,
    NAME,
    SERVICE,
    booted,
    configure,
    published,
    shim,
    states,
    wire_kubelet,
)
from tests.e2e.support.process import wait_for

pytestmark = pytest.mark.systems

GLIBC = {"bullseye": "2.31", "bookworm": "2.36"}


@pytest.fixture(params=GLIBC)
def machine(request: pytest.FixtureRequest) -> Iterator[BareMachine]:
    suite: str = request.param
    published()
    for node in booted(suite):
        said = node.run("ldd", "--version", check=True).stdout
        assert said.splitlines()[0].endswith(GLIBC[suite])
        yield node


def package(pattern: str) -> Path:
    (path,) = published().glob(pattern)
    return path


def test_the_packages_ask_for_no_later_glibc() -> None:
    """2.31: Debian 11, Ubuntu 20.04; RHEL 9 has 2.34."""
    command = ["dpkg-deb", "--field", str(package("*.deb")), "Depends"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    asked = re.match(r"libc6 \(>= 2\.(\d+)\),", done.stdout)
    assert asked is not None, done.stdout
    assert int(asked[1]) <= 31


def test_the_deb(machine: BareMachine) -> None:
    """Installed by dpkg it shows, checks, serves, pulls, wires kubelet, and goes."""
    machine.run("dpkg", "--install", machine.put(package("*.deb")), timeout_s=120, check=True)
    demo = shim(machine, "demo")
    assert demo.returncode == 0, demo.stderr
    configure(machine)
    checked = shim(machine, "serve", "--file", CONFIG, "--dry-run")
    assert checked.returncode == 0, checked.stderr
    machine.systemctl("start", SERVICE)
    pulled = shim(machine, "pull", "nginx")
    assert pulled.returncode == 0, pulled.stderr
    wire_kubelet(machine)
    assert states(machine) == ["enabled", "active", "enabled", "active"]
    machine.run("dpkg", "--purge", NAME, timeout_s=120, check=True)
    assert states(machine)[1::2] == ["inactive", "inactive"]


def test_the_rpm(machine: BareMachine, tmp_path: Path) -> None:
    """Installed by this release's rpm it serves and pulls, is verified, and goes."""
    rpm.manage(machine, "--install", machine.put(rpm.system(tmp_path)))
    rpm.manage(machine, "--install", machine.put(package("*.rpm")))
    configure(machine)
    machine.systemctl("start", SERVICE)
    pulled = shim(machine, "pull", "nginx")
    assert pulled.returncode == 0, pulled.stderr
    assert rpm.manage(machine, "--verify", NAME).stdout == ""
    rpm.manage(machine, "--erase", NAME)
    assert not machine.place(f"/run/{NAME}.sock").exists()


def test_the_tarball(machine: BareMachine) -> None:
    """Unpacked, linked and installed as its INSTALL.txt has it, it serves and pulls."""
    archive = package("*.tar.gz")
    folder = f"/opt/{archive.name.removesuffix('.tar.gz')}"
    machine.run("tar", "-C", "/opt", "-xzf", machine.put(archive), check=True)
    machine.run("ln", "-sfn", f"{folder}/{NAME}", f"/usr/local/bin/{NAME}", check=True)
    configure(machine)
    assert shim(machine, "serve", "--file", CONFIG, "--dry-run").returncode == 0
    installed = shim(machine, "install-service", "--now")
    assert installed.returncode == 0, installed.stderr
    wait_for("the shim", lambda: shim(machine, "status").returncode == 0, 20)
    assert shim(machine, "pull", "nginx").returncode == 0
    removed = shim(machine, "uninstall-service", "--now")
    assert removed.returncode == 0, removed.stderr
