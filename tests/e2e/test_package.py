"""The .deb, the .rpm and the .tar.gz on a Debian without Python and without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.bare_tree import BareMachine, bare_machine
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.systemd_tree import PROJECT, Done, snapshot

pytestmark = pytest.mark.e2e

NAME = "image-cri-shim"
SERVICE = f"{NAME}.service"
SOCKET = f"{NAME}.socket"
BYPASS = f"{NAME}-bypass.service"
COMMAND = f"/usr/bin/{NAME}"
CONFIG = f"/etc/{NAME}.yaml"
STATE = f"/var/lib/{NAME}"
SHIM = f"/run/{NAME}.sock"
HUB = "address: http://127.0.0.1:5000\nauth: admin:pass:word\nfallback: deny\n"
BUILD_S = 900
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


@pytest.fixture(scope="module")
def dist() -> Path:
    """The folder with the packages of these sources, built when they are not there."""
    lacking = systemd_tree.missing()
    if lacking:
        refuse("needs " + ", ".join(lacking))
    built = subprocess.run(
        ["make", "dist"], cwd=PROJECT, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return PROJECT / "dist"


@pytest.fixture(scope="module")
def deb(dist: Path) -> Path:
    (path,) = dist.glob("*.deb")
    return path


@pytest.fixture(scope="module")
def rpm(dist: Path) -> Path:
    (path,) = dist.glob("*.rpm")
    return path


@pytest.fixture(scope="module")
def older(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as one of an older version, which has a file that this one has not."""
    tree = tmp_path_factory.mktemp("older") / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 0.0.1", control.read_text()))
    (tree / f"usr/lib/{NAME}/lib/older").touch()
    path = tree.with_name(f"{NAME}_0.0.1.deb")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--build", tree, path], check=True)
    return path


@pytest.fixture
def machine(dist: Path) -> Iterator[BareMachine]:
    """A booted Debian with the runtime and the hub in its reach."""
    with bare_machine() as booted:
        assert booted.run("sh", "-c", "command -v python3").returncode != 0
        interfaces = booted.run("cat", "/proc/net/dev").stdout.splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        with booted.node():
            yield booted


def dpkg(machine: BareMachine, *arguments: str) -> str:
    """What dpkg said; it has to succeed."""
    done = machine.run("dpkg", *arguments, timeout_s=120)
    print(f"$ dpkg {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr
    return done.stdout


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


def test_the_life_of_the_package(machine: BareMachine, older: Path, deb: Path) -> None:
    """Install, look, configure, serve, pull, upgrade, remove, purge: nothing is left."""
    old, new = machine.put(older), machine.put(deb)
    names, etc = machine.names(), snapshot(machine, ["/etc"])

    said = dpkg(machine, "--install", old)
    assert f"next, write {CONFIG}" in said
    assert states(machine) == ["enabled", "inactive", "enabled", "inactive"]
    assert machine.place(f"/usr/share/doc/{NAME}/examples/{NAME}.yaml").exists()
    assert shim(machine, "--version").stdout.startswith(f"{NAME} ")
    demo = shim(machine, "demo")
    assert demo.returncode == 0, demo.stderr
    assert "the hub let admin in" in demo.stdout

    # Without a configuration starting it is no failure, and does nothing.
    machine.systemctl("start", SOCKET, SERVICE)
    assert states(machine) == ["enabled", "inactive", "enabled", "inactive"]

    configure(machine)
    started = time.monotonic()
    machine.systemctl("start", SERVICE)
    print(f"serving after {time.monotonic() - started:.2f} s")
    assert states(machine) == ["enabled", "active", "enabled", "active"]
    assert shim(machine, "status").returncode == 0
    pulled = shim(machine, "pull", "nginx")
    assert pulled.returncode == 0, pulled.stderr
    print(pulled.stdout)

    pid = main_pid(machine)
    assert "handed over" in dpkg(machine, "--install", new)
    assert main_pid(machine) != pid
    assert machine.place(CONFIG).read_text() == HUB
    assert machine.place(CONFIG).stat().st_mode & 0o777 == 0o600
    assert not machine.place(f"/usr/lib/{NAME}/lib/older").exists()
    assert shim(machine, "status").returncode == 0
    pulled = shim(machine, "pull", "busybox", "-o", "json")
    assert [each["pulled"] for each in json.loads(pulled.stdout)] == [True]

    dpkg(machine, "--remove", NAME)
    assert not machine.place(COMMAND).is_symlink()
    assert not machine.place(SHIM).exists()
    assert machine.place(CONFIG).read_text() == HUB
    assert machine.place(STATE).is_dir()

    dpkg(machine, "--purge", NAME)
    assert machine.names() == names
    assert snapshot(machine, ["/etc"]) == etc
    assert list(machine.place("/run").glob(f"{NAME}*")) == []
    assert machine.run("systemctl", "--failed", "--quiet", "list-units").stdout.strip() == ""


def test_what_an_upgrade_leaves_alone(machine: BareMachine, older: Path, deb: Path) -> None:
    """A disabled service stays so; one whose configuration is broken by now runs on."""
    dpkg(machine, "--install", machine.put(older))
    configure(machine)
    machine.systemctl("start", SERVICE)
    machine.systemctl("disable", SERVICE)
    configure(machine, "address: ''\nbogus: 1\n")
    pid = main_pid(machine)
    said = dpkg(machine, "--install", machine.put(deb))
    assert f"cannot use {CONFIG}; the old one runs on" in said
    assert (main_pid(machine), states(machine)[:2]) == (pid, ["disabled", "active"])
    pulled = shim(machine, "pull", "nginx")  # its first: it imports what it had no use for so far
    assert pulled.returncode == 0, pulled.stderr


def test_the_cluster_part_is_bundled(machine: BareMachine, deb: Path) -> None:
    """Asked to watch an API server, here one that is away, it can; nothing is not installed."""
    server = {"cluster": {"server": "https://127.0.0.1:9"}, "name": "c"}
    context = {"context": {"cluster": "c", "user": "u"}, "name": "c"}
    user = {"name": "u", "user": {"token": "t0ken"}}
    kubeconfig: dict[str, object] = {"clusters": [server], "contexts": [context], "users": [user]}
    kubeconfig |= {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
    machine.add("/etc/kubeconfig", json.dumps(kubeconfig), 0o600)  # JSON is YAML
    dpkg(machine, "--install", machine.put(deb))
    configure(machine, f"{HUB}kubernetes:\n  enabled: true\n  kubeconfig: /etc/kubeconfig\n")
    machine.systemctl("start", SERVICE)
    wait_for("a word on the API server", lambda: "127.0.0.1:9" in machine.journal(), 20)
    print(machine.journal("--output=cat"))
    assert "not installed" not in machine.journal()
    assert "t0ken" not in machine.journal()


def test_a_damaged_bundle(machine: BareMachine, deb: Path) -> None:
    """The socket leads to the runtime, for which no Python is needed; mended, the shim is back."""
    dpkg(machine, "--install", machine.put(deb))
    configure(machine, HUB.replace("fallback: deny\n", ""))
    machine.systemctl("start", SERVICE)
    bundle = machine.place(f"/usr/lib/{NAME}")
    bundle.rename(bundle.with_name("gone"))
    machine.run("systemctl", "kill", "--signal=KILL", SERVICE, check=True)
    wait_for("the bypass", lambda: machine.shows(BYPASS, "ActiveState") == "active", 60)
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")
    bundle.with_name("gone").rename(bundle)
    wait_for("the shim", lambda: shim(machine, "status").returncode == 0, 60)
    wait_for("its end", lambda: machine.shows(BYPASS, "ActiveState") == "inactive", 10)
    assert shim(machine, "pull", "nginx").returncode == 0


def test_removing_gives_kubelet_its_runtime_back(machine: BareMachine, deb: Path) -> None:
    """What install-service wired is unwired before the command goes, and kubelet restarted."""
    for path, text in KUBELET.items():
        machine.add(path, text)
    machine.add("/usr/local/bin/kubelet", "#!/bin/sh\nexec sleep infinity\n", 0o755)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "kubelet.service")
    dpkg(machine, "--install", machine.put(deb))
    configure(machine)
    wired = shim(machine, "install-service", "--wire-kubelet", "--now")
    assert wired.returncode == 0, wired.stderr
    assert SHIM in machine.place(KUBELET_CONFIG).read_text(), wired.stdout
    kubelet = machine.shows("kubelet.service", "MainPID")
    said = dpkg(machine, "--purge", NAME)
    assert "kubelet.service restarted" in said
    assert machine.shows("kubelet.service", "MainPID") != kubelet
    assert machine.place(KUBELET_CONFIG).read_text() == KUBELET[KUBELET_CONFIG]
    assert not machine.place(SHIM).exists()


def test_tarball(machine: BareMachine, dist: Path) -> None:
    """The lines of INSTALL.txt, on the same machine."""
    (archive,) = dist.glob("*.tar.gz")
    path = machine.put(archive)
    names = machine.names()
    folder = f"/opt/{archive.name.removesuffix('.tar.gz')}"
    machine.run("tar", "-C", "/opt", "-xzf", path, check=True)
    machine.run("ln", "-sfn", f"{folder}/{NAME}", f"/usr/local/bin/{NAME}", check=True)
    assert machine.place(f"{folder}/INSTALL.txt").exists()
    configure(machine)
    installed = shim(machine, "install-service", "--now")
    assert installed.returncode == 0, installed.stderr
    wait_for("the shim", lambda: shim(machine, "status").returncode == 0, 20)
    assert shim(machine, "pull", "nginx").returncode == 0
    removed = shim(machine, "uninstall-service", "--now")
    assert removed.returncode == 0, removed.stderr
    machine.run("rm", "-r", f"/usr/local/bin/{NAME}", folder, CONFIG, check=True)
    assert {name for name in machine.names() - names if not name.startswith(STATE)} == set()


def asked(rpm: Path, *question: str) -> str:
    """What the package says of itself."""
    command = ["rpm", "--dbpath", "/nonexistent", "--query", "--package", *question, str(rpm)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def scriptlet(rpm: Path, tag: str, versions_left: int) -> list[str]:
    """A scriptlet of the package, as rpm runs it."""
    return ["sh", "-c", asked(rpm, "--queryformat", f"%{{{tag}}}"), "sh", str(versions_left)]


def test_the_rpm_on_a_machine(machine: BareMachine, rpm: Path) -> None:
    """Its files and scriptlets: enabled, idle, serving, restarted by an upgrade, gone."""
    with rpm.open("rb") as packed:
        archive = subprocess.run(
            ["rpm2archive", "-"], stdin=packed, capture_output=True, check=True
        )
    unpack = [
        "tar",
        "--extract",
        "--gzip",
        "--keep-directory-symlink",
        "-C",
        str(machine.place("/")),
    ]
    subprocess.run(unpack, input=archive.stdout, check=True)
    machine.run(*scriptlet(rpm, "POSTIN", 1), check=True)
    machine.run(*scriptlet(rpm, "POSTTRANS", 1), check=True)
    assert states(machine) == ["enabled", "inactive", "enabled", "inactive"]
    configure(machine)
    machine.systemctl("start", SERVICE)
    assert shim(machine, "pull", "nginx").returncode == 0
    pid = main_pid(machine)
    machine.run(*scriptlet(rpm, "PREUN", 1), check=True)  # as an upgrade does
    assert "handed over" in machine.run(*scriptlet(rpm, "POSTTRANS", 1), check=True).stdout
    assert main_pid(machine) != pid
    configure(machine, "bogus: 1\n")
    said = machine.run(*scriptlet(rpm, "POSTTRANS", 1), check=True).stdout
    assert f"cannot use {CONFIG}; the old one runs on" in said
    machine.run(*scriptlet(rpm, "PREUN", 0), check=True)
    machine.run(*scriptlet(rpm, "POSTUN", 0), check=True)
    assert states(machine) == ["disabled", "inactive", "disabled", "inactive"]
    assert not machine.place(SHIM).exists()


def test_what_the_rpm_holds(rpm: Path, deb: Path) -> None:
    """The same program as the .deb, root's alone, and nothing that is not on RHEL 9."""
    needs = {line.split()[0] for line in asked(rpm, "--requires").splitlines()}
    assert {need for need in needs if not need.startswith("rpmlib(")} == {
        "/bin/sh",
        "glibc",
        "systemd",
        "zlib",
    }
    assert set(asked(rpm, "--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME} ]").split()) == {
        "root:root"
    }
    listing = subprocess.run(
        ["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True
    ).stdout
    program = f"/usr/lib/{NAME}/"
    in_deb = {line.split()[5].removeprefix(".") for line in listing.splitlines()}
    in_rpm = set(asked(rpm, "--list").splitlines())
    files = {path for path in in_deb if path.startswith(program) and not path.endswith("/")}
    assert files == {path for path in in_rpm if path.startswith(program)} - {
        path.rstrip("/") for path in in_deb if path.endswith("/")
    }
    assert f"/etc/{NAME}.yaml" not in in_rpm


def test_every_missing_tool_is_named(tmp_path: Path) -> None:
    """At once, with the packages that have them, before anything is built."""
    for tool in ("bash", "dirname", "git", "date", "sort", "sed", "tr"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    ran = subprocess.run(
        [PROJECT / "packaging/build"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert "needs dpkg-deb, objdump, rpmbuild, strip, xz" in line
    for package in ("binutils", "dpkg", "rpm", "xz-utils"):
        assert f" {package}" in line.partition("apt-get install")[2]


def test_what_the_package_needs(deb: Path, dist: Path) -> None:
    """Nothing but Debian's C library, zlib and init scripts; no file that is not root's."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", deb, "Depends"], capture_output=True, text=True, check=True
    ).stdout
    assert {part.split()[0] for part in fields.split(", ")} == {
        "libc6",
        "zlib1g",
        "init-system-helpers",
    }
    listing = subprocess.run(
        ["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True
    ).stdout
    for line in listing.splitlines():
        mode, owner, *_ = line.split()
        assert owner == "root/root"
        assert mode[0] == "l" or mode[8] == "-", line  # others may not write
    assert f"./etc/{NAME}.yaml" not in listing
    sizes = {path.name: os.stat(path).st_size for path in dist.glob(f"{NAME}[_-]*.*z*")}
    print({**sizes, deb.name: deb.stat().st_size})
