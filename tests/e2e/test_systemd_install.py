"""install-service and uninstall-service on a machine that a real systemd runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.kubeadm_layout import CONTAINERD, FILES, KUBELET
from tests.e2e.support.process import wait_for
from tests.e2e.support.shim import run_shim
from tests.e2e.support.systemd_tree import Done, Machine, node, snapshot

pytestmark = pytest.mark.e2e

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
CONFIG = "/etc/image-cri-shim.yaml"
SHIM = "/var/run/image-cri-shim.sock"
PLACES = ("/etc", "/usr/local", "/var/lib")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted Debian with a kubelet in the way that kubeadm sets it up."""
    if missing := systemd_tree.missing():
        refuse("needs " + ", ".join(missing))
    with node() as booted:
        booted.add("/usr/local/bin/kubelet", KUBELET, 0o755)
        for path, text in FILES.items():
            booted.add(path, text)
        booted.systemctl("daemon-reload")
        booted.systemctl("start", "kubelet.service")
        yield booted


@pytest.fixture
def clean(machine: Machine) -> Iterator[Machine]:
    """The machine with nothing of ours on it, and the same again afterwards."""
    before = snapshot(machine, PLACES)
    yield machine
    command(machine, "uninstall-service", "--now", "--purge", "--force")
    assert snapshot(machine, PLACES) == before


def command(machine: Machine, *arguments: str) -> Done:
    return machine.run("image-cri-shim", *arguments)


def fill_in(machine: Machine) -> None:
    place = machine.place(CONFIG)
    text = place.read_text()
    hub = "address: http://sealos.hub:5000\nauth: admin:pass:word\n"
    assert "\naddress:\n" in text
    place.write_text(text.replace("\naddress:\n", f"\n{hub}"))


def kubelet_pid(machine: Machine) -> str:
    return machine.shows("kubelet.service", "MainPID")


def kubelet_says(machine: Machine, text: str) -> None:
    """Its last lines come to have it: journald is another process."""
    lines = ("journalctl", "--unit=kubelet", "--lines=4")
    wait_for(text, lambda: text in machine.run(*lines).stdout, 20)


def test_from_nothing_to_a_wired_kubelet_and_back(clean: Machine) -> None:
    """The way that the manual shows, each step on its own."""
    before = snapshot(clean, PLACES)
    shown = command(clean, "install-service", "--wire-kubelet", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert f'+containerRuntimeEndpoint: "unix://{SHIM}"' in shown.stdout
    assert "\x1b" not in shown.stdout
    assert snapshot(clean, PLACES) == before

    first = command(clean, "install-service", "--now", "--wire-kubelet")
    assert first.returncode == 1
    assert "fill in `address`" in first.stderr
    assert f"\ncri: {CONTAINERD}\n" in clean.place(CONFIG).read_text()
    assert clean.place(CONFIG).stat().st_mode & 0o777 == 0o600
    assert clean.shows(SERVICE, "ActiveState") == "inactive"
    assert (
        clean.place("/var/lib/kubelet/config.yaml").read_text()
        == FILES["/var/lib/kubelet/config.yaml"]
    )

    fill_in(clean)
    old = kubelet_pid(clean)
    second = command(clean, "install-service", "--now", "--wire-kubelet", "--force")
    assert second.returncode == 0, second.stderr
    assert kubelet_pid(clean) != old
    kubelet_says(clean, f"--container-runtime-endpoint=unix://{SHIM} --v=2")
    kubelet_says(clean, f"imageServiceEndpoint: unix://{SHIM}")
    with CriClient(clean.place("/run/image-cri-shim.sock"), timeout_s=20) as client:
        assert client.pull("nginx:latest").startswith("sha256:")
    for unit in (SERVICE, SOCKET):
        assert clean.run("systemctl", "is-enabled", unit).stdout == "enabled\n"

    after = snapshot(clean, PLACES)
    pids = (kubelet_pid(clean), clean.shows(SERVICE, "MainPID"))
    third = command(clean, "install-service", "--now", "--wire-kubelet")
    assert third.returncode == 0, third.stderr
    assert "installed already" in third.stdout
    assert snapshot(clean, PLACES) == after
    assert (kubelet_pid(clean), clean.shows(SERVICE, "MainPID")) == pids

    back = command(clean, "uninstall-service", "--now")
    assert back.returncode == 0, back.stderr
    assert "stays" in back.stderr
    left = snapshot(clean, PLACES)
    assert {path for path in left if path not in before} == {CONFIG}
    assert {path: each for path, each in left.items() if path != CONFIG} == before
    assert clean.shows(SERVICE, "LoadState") == "not-found"
    assert not clean.place("/run/image-cri-shim.sock").exists()
    kubelet_says(clean, f"--container-runtime-endpoint={CONTAINERD} --v=2")
    clean.place(CONFIG).unlink()


def test_the_service_is_there_after_a_boot(clean: Machine) -> None:
    """What `enable` means: the targets of a boot want both units."""
    command(clean, "install-service")
    for target, unit in (("multi-user.target", SERVICE), ("sockets.target", SOCKET)):
        assert unit in clean.shows(target, "Wants").split()


def test_it_takes_the_place_of_a_shim_of_the_same_name(clean: Machine) -> None:
    """An older shim's unit is replaced, and runs again after uninstalling."""
    clean.add("/etc/systemd/system/image-cri-shim.service", "[Service]\nExecStart=sleep infinity\n")
    clean.add(CONFIG, "address: http://sealos.hub:5000\nauth: admin:pass:word\n", 0o600)
    clean.systemctl("daemon-reload")
    clean.systemctl("start", SERVICE)
    before = snapshot(clean, PLACES)
    done = command(clean, "install-service", "--now")
    assert done.returncode == 0, done.stderr
    with CriClient(clean.place("/run/image-cri-shim.sock"), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")
    assert command(clean, "uninstall-service").returncode == 0
    assert snapshot(clean, PLACES) == before
    assert "sleep" in clean.shows(SERVICE, "ExecStart")
    assert clean.shows(SERVICE, "ActiveState") == "active"
    clean.systemctl("stop", SERVICE)
    clean.place("/etc/systemd/system/image-cri-shim.service").unlink()
    clean.place(CONFIG).unlink()
    clean.systemctl("daemon-reload")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("address: ftp://x\n", "address"),
        ("address: [\n", CONFIG),
        ("address: http://h:5000\nadress: x\n", "adress"),
    ],
)
def test_a_bad_configuration_changes_nothing(clean: Machine, config: str, said: str) -> None:
    """The fault is named, the status is 1, and no unit is written."""
    clean.add(CONFIG, config, 0o600)
    before = snapshot(clean, PLACES)
    done = command(clean, "install-service", "--now", "--wire-kubelet")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(clean, PLACES) == before
    clean.place(CONFIG).unlink()


def test_without_root(clean: Machine) -> None:
    """One line, status 1; looking is allowed."""
    before = snapshot(clean, PLACES)
    plain = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "image-cri-shim"]
    done = clean.run(*plain, "install-service")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "root" in done.stderr
    assert clean.run(*plain, "install-service", "--dry-run").returncode == 0
    assert snapshot(clean, PLACES) == before


def test_on_a_terminal_the_diff_has_colours(clean: Machine) -> None:
    """Green for what comes."""
    inner = "TERM=xterm-256color image-cri-shim install-service --dry-run"
    done = clean.run("script", "--quiet", "--return", "--command", inner, "/dev/null")
    assert done.returncode == 0, done.stdout
    assert "\x1b[32m+[Unit]" in done.stdout


def test_an_image_that_was_prepared_with_root(machine: Machine) -> None:
    """Installed on the unpacked image, everything runs after the first boot, kubelet last."""

    def prepare(image: Machine) -> None:
        image.add("/usr/local/bin/kubelet", KUBELET, 0o755)
        image.add(CONFIG, "address: http://sealos.hub:5000\nauth: admin:pass:word\n", 0o600)
        for path, text in FILES.items():
            image.add(path, text)
        wants = image.unpacked / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir()
        for unit, place in (("containerd", "/etc"), ("kubelet", "/usr/lib")):
            (wants / f"{unit}.service").symlink_to(f"{place}/systemd/system/{unit}.service")
        done = run_shim("install-service", "--root", image.unpacked, "--wire-kubelet")
        assert done.returncode == 0, done.stderr

    with node(prepare) as booted:
        with CriClient(booted.place("/run/image-cri-shim.sock"), timeout_s=20) as client:
            assert client.pull("nginx:latest").startswith("sha256:")
        assert "path=/usr/local/bin/image-cri-shim " in booted.shows(SERVICE, "ExecStart")
        began = int(booted.shows("kubelet.service", "ExecMainStartTimestampMonotonic"))
        assert began > int(booted.shows(SERVICE, "ActiveEnterTimestampMonotonic")) > 0
        said = booted.run("journalctl", "--unit=kubelet").stdout
        assert f"--container-runtime-endpoint=unix://{SHIM} --v=2" in said


def test_a_machine_without_systemd() -> None:
    """One clear line and status 1, on the machine that runs these tests, if it has none."""
    done = run_shim("install-service")
    if "systemd does not run this machine" not in done.stderr:
        pytest.skip("systemd runs this machine; the unit tests have this case")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
