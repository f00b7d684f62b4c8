"""The .rpm on a Debian with rpm, without Python and without a network."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import rpm
from tests.e2e.support.bare_tree import BareMachine
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.packages import (
    CONFIG,
    HUB,
    KUBELET,
    KUBELET_CONFIG,
    NAME,
    SERVICE,
    booted,
    built,
    configure,
    main_pid,
    outlives_its_files,
    shim,
    states,
    wire_kubelet,
    without_bundle,
)
from tests.e2e.support.systemd_tree import PROJECT, snapshot

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def package() -> Path:
    (path,) = built().glob("*.rpm")
    return path


@pytest.fixture(scope="module")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as one of an older version, which has a file that this one has not."""
    room = tmp_path_factory.mktemp("older")
    parts = built().parent
    bundle = room / NAME
    subprocess.run(["cp", "-R", "--link", parts / "bundle" / NAME, bundle], check=True)
    (bundle / "lib/older").touch()
    machine = rpm.asked(package, "--queryformat", "%{ARCH}")
    command: list[str | Path] = [
        PROJECT / "packaging/rpm",
        bundle,
        parts / "share",
        "0.0.1",
        machine,
        room,
    ]
    subprocess.run(command, env={**os.environ, "PACK": "fast"}, check=True)
    (path,) = room.glob("*.rpm")
    return path


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that stands for what every system with rpm has."""
    return rpm.system(tmp_path_factory.mktemp("system"))


@pytest.fixture
def machine(package: Path, system: Path) -> Iterator[BareMachine]:
    for node in booted():
        rpm.manage(node, "--install", node.put(system))
        yield node


def test_the_life_of_the_rpm(machine: BareMachine, older: Path, package: Path) -> None:
    """Install, configure, serve, pull, upgrade, erase: all by rpm, and nothing is left."""
    old, new = machine.put(older), machine.put(package)
    names, etc = machine.names(), snapshot(machine, ["/etc"])

    assert f"next, write {CONFIG}" in rpm.manage(machine, "--install", old).stdout
    assert states(machine) == ["enabled", "inactive", "enabled", "inactive"]
    rpm.manage(machine, "--verify", NAME)
    demo = shim(machine, "demo")
    assert demo.returncode == 0, demo.stderr
    configure(machine)
    machine.systemctl("start", SERVICE)
    assert states(machine) == ["enabled", "active", "enabled", "active"]
    assert shim(machine, "pull", "nginx").returncode == 0

    pid = main_pid(machine)
    assert "handed over" in rpm.manage(machine, "--upgrade", new).stdout
    assert main_pid(machine) != pid
    assert states(machine) == ["enabled", "active", "enabled", "active"]
    assert machine.place(CONFIG).read_text() == HUB
    assert machine.place(CONFIG).stat().st_mode & 0o777 == 0o600
    assert not machine.place(f"/usr/lib/{NAME}/lib/older").exists()
    pulled = shim(machine, "pull", "busybox", "-o", "json")
    assert [each["pulled"] for each in json.loads(pulled.stdout)] == [True]
    assert rpm.manage(machine, "--verify", NAME).stdout == ""

    rpm.manage(machine, "--erase", NAME)
    assert not machine.place(f"/run/{NAME}.sock").exists()
    assert machine.place(CONFIG).read_text() == HUB
    machine.place(CONFIG).unlink()
    left = machine.names() - names
    assert {name for name in left if not name.startswith(f"/var/lib/{NAME}")} == set()
    assert snapshot(machine, ["/etc"]) == etc
    assert machine.run("systemctl", "--failed", "--quiet", "list-units").stdout.strip() == ""


def test_what_an_upgrade_leaves_alone(machine: BareMachine, older: Path, package: Path) -> None:
    """A disabled service stays so; one whose configuration is broken by now runs on."""
    rpm.manage(machine, "--install", machine.put(older))
    configure(machine)
    machine.systemctl("start", SERVICE)
    machine.systemctl("disable", SERVICE)
    configure(machine, "address: ''\nbogus: 1\n")
    pid = main_pid(machine)
    said = rpm.manage(machine, "--upgrade", machine.put(package)).stdout
    assert f"cannot use {CONFIG}; the old one runs on" in said
    assert (main_pid(machine), states(machine)[:2]) == (pid, ["disabled", "active"])
    # Its first pull, for which it had loaded nothing before the upgrade.
    with without_bundle(machine), CriClient(machine.place(f"/run/{NAME}.sock")) as client:
        assert client.pull("nginx").startswith("sha256:")


def test_an_old_process_outlives_its_files(
    machine: BareMachine, older: Path, package: Path
) -> None:
    """What an upgrade interrupts ends in the old process, which needs nothing of its package's."""
    rpm.manage(machine, "--install", machine.put(older))
    upgrade = machine.put(package)
    outlives_its_files(machine, lambda: rpm.manage(machine, "--upgrade", upgrade).stdout)


def test_erasing_gives_kubelet_its_runtime_back(machine: BareMachine, package: Path) -> None:
    """What install-service wired is unwired before the command goes, and kubelet restarted."""
    rpm.manage(machine, "--install", machine.put(package))
    wire_kubelet(machine)
    kubelet = machine.shows("kubelet.service", "MainPID")
    said = rpm.manage(machine, "--erase", NAME).stdout
    assert "kubelet.service restarted" in said
    assert machine.shows("kubelet.service", "MainPID") != kubelet
    assert machine.place(KUBELET_CONFIG).read_text() == KUBELET[KUBELET_CONFIG]
    assert not machine.place(f"/run/{NAME}.sock").exists()


def test_what_cannot_be_put_back_keeps_the_package(machine: BareMachine, package: Path) -> None:
    """Erasing stops before anything is gone when nothing tells what kubelet had before."""
    rpm.manage(machine, "--install", machine.put(package))
    wire_kubelet(machine)
    machine.add(f"/var/lib/{NAME}/installed.json", "{")
    done = rpm.run(machine, "--erase", NAME)
    assert done.returncode != 0
    assert "could not be put back" in done.stderr
    assert states(machine) == ["enabled", "active", "enabled", "active"]
    assert shim(machine, "status").returncode == 0
    rpm.manage(machine, "--verify", NAME)


def test_an_older_system_is_refused(machine: BareMachine, package: Path) -> None:
    """A system that lacks what the package needs: rpm names it, and installs nothing."""
    path = machine.put(package)
    rpm.manage(machine, "--erase", "system")
    done = rpm.run(machine, "--install", path)
    assert done.returncode != 0
    for need in ("glibc >= ", "systemd", "libz.so.1"):
        assert f"{need}" in done.stderr
    assert not machine.place(f"/usr/bin/{NAME}").is_symlink()


def test_what_the_rpm_holds(package: Path) -> None:
    """The same program as the .deb, root's alone, and nothing that is not on RHEL 9."""
    needs = {line.split()[0] for line in rpm.asked(package, "--requires").splitlines()}
    assert {need for need in needs if not need.startswith("rpmlib(")} == {
        "/bin/sh",
        "glibc",
        "systemd",
        "libz.so.1()(64bit)",
    }
    owners = set(rpm.asked(package, "--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME} ]").split())
    assert owners == {"root:root"}
    (deb,) = built().glob("*.deb")
    listing = subprocess.run(
        ["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True
    ).stdout
    program = f"/usr/lib/{NAME}/"
    in_deb = {line.split()[5].removeprefix(".") for line in listing.splitlines()}
    in_rpm = set(rpm.asked(package, "--list").splitlines())
    files = {path for path in in_deb if path.startswith(program) and not path.endswith("/")}
    assert files == {path for path in in_rpm if path.startswith(program)} - {
        path.rstrip("/") for path in in_deb if path.endswith("/")
    }
    assert CONFIG not in in_rpm
