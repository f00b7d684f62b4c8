"""The .deb and the .tar.gz on a Debian without Python and without a network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.bare_tree import BareMachine
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.packages import (
    BYPASS,
    CONFIG,
    HUB,
    KUBELET,
    KUBELET_CONFIG,
    NAME,
    SERVICE,
    SOCKET,
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
from tests.e2e.support.process import wait_for
from tests.e2e.support.systemd_tree import PROJECT, snapshot

pytestmark = pytest.mark.e2e

COMMAND = f"/usr/bin/{NAME}"
STATE = f"/var/lib/{NAME}"
SHIM = f"/run/{NAME}.sock"


@pytest.fixture(scope="module")
def dist() -> Path:
    return built()


@pytest.fixture(scope="module")
def deb(dist: Path) -> Path:
    (path,) = dist.glob("*.deb")
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
    yield from booted()


def dpkg(machine: BareMachine, *arguments: str) -> str:
    """What dpkg said; it has to succeed."""
    done = machine.run("dpkg", *arguments, timeout_s=120)
    print(f"$ dpkg {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr
    return done.stdout


def test_the_life_of_the_package(machine: BareMachine, older: Path, deb: Path) -> None:
    """Install, look, configure, serve, pull, upgrade, remove, purge: nothing is left."""
    old, new = machine.put(older), machine.put(deb)
    names, etc = machine.names(), snapshot(machine, ["/etc"])

    said = dpkg(machine, "--install", old)
    assert f"next, write {CONFIG}" in said
    assert states(machine) == ["enabled", "inactive", "enabled", "inactive"]
    assert machine.place(f"/usr/share/doc/{NAME}/examples/{NAME}.yaml").exists()
    assert machine.place(f"/usr/share/doc/{NAME}/contrib/prometheus/alerts.yaml").exists()
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
    maps = machine.run("cat", f"/proc/{pid}/maps").stdout
    assert "/shimcore__mypyc." in maps  # its relay's core is compiled
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
    # Its first pull, for which it had loaded nothing before the upgrade.
    with without_bundle(machine), CriClient(machine.place(SHIM)) as client:
        assert client.pull("nginx").startswith("sha256:")
    assert shim(machine, "pull", "busybox").returncode == 0


def test_an_old_process_outlives_its_files(machine: BareMachine, older: Path, deb: Path) -> None:
    """What an upgrade interrupts ends in the old process, which needs nothing of its package's."""
    dpkg(machine, "--install", machine.put(older))
    outlives_its_files(machine, lambda: dpkg(machine, "--install", machine.put(deb)))


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
    dpkg(machine, "--install", machine.put(deb))
    wire_kubelet(machine)
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
    assert "needs dpkg-deb, gcc, objdump, rpmbuild, strip, xz, debootstrap" in line
    for package in ("binutils", "debootstrap", "dpkg", "gcc", "libc6-dev", "rpm", "xz-utils"):
        assert f" {package}" in line.partition("apt-get install")[2]


def test_a_python_of_older_sources_is_not_published(tmp_path: Path) -> None:
    """Where it was compiled without what Debian has, building stops with what to do."""
    folder = PROJECT / "packaging/python"
    scripts = (folder / "build").read_bytes() + (folder / "compile").read_bytes()
    name = f"{hashlib.sha256(scripts).hexdigest()[:16]}-{os.uname().machine}"
    prefix = tmp_path / "image-cri-shim/python" / name
    prefix.mkdir(parents=True)
    (prefix / "packages").touch()
    (prefix / "older").write_text("openssl 3.0.20, not 3.0.22\n")
    settings = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    settings.pop("ALLOW_OLDER_SOURCES", None)

    def build(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "build"],
            env={**settings, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = build()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "openssl 3.0.20, not 3.0.22" in refused.stderr
    assert "ALLOW_OLDER_SOURCES=1" in refused.stderr
    assert build(ALLOW_OLDER_SOURCES="1").stdout == f"{prefix}\n"


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
