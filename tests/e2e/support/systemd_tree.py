"""A Debian with the project installed, booted by its own systemd in namespaces of its own.

debootstrap makes the tree once for all working trees; each boot writes to an overlay that
exists in the namespaces alone, so nothing stays mounted when it ends. With a disk, what was
written is there again at the next boot.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .process import Process, alone, wait_for

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
# What tests/e2e/stock/build builds.
BUILT = CACHE / "image-cri-shim-e2e/runtimes-2"
BASE = CACHE / "image-cri-shim-e2e/trees/bookworm-2"
DOWNLOADS = BASE.parent / "downloads"
PACKAGES = "systemd,systemd-sysv,python3,python3-venv,procps"
MIRROR = "http://deb.debian.org/debian"
COMPONENTS = ("debootstrap", "unshare", "nsenter", "setpriv")
PROJECT = Path(__file__).parents[3]
PREFIX = "/srv/image-cri-shim"
COMMAND = f"{PREFIX}/bin/image-cri-shim"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Runs in the new namespaces. $1: directory of this boot, $2: base, $3: this Python's packages,
# or nothing, $4: where they are on the machine. A machine with a disk has its `upper` already, and
# folders that are to be no overlay below `plain`.
_BOOT = """
set -eu
if [ ! -d "$1/over/upper" ]; then
  mount -t tmpfs tmpfs "$1/over"
  mkdir "$1/over/upper" "$1/over/work"
  cp -a "$1/files/." "$1/over/upper/"
fi
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/over/upper,workdir=$1/over/work" "$1/tree"
cd "$1/tree"
if [ -n "$3" ]; then
  mount --bind "$3" "./$4"
  mount -o remount,bind,ro "./$4"
fi
if [ -d "$1/plain" ]; then
  mkdir -p var/lib/containerd
  mount --bind "$1/plain" var/lib/containerd
fi
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 dev dev
while read -r device major minor; do
  mknod -m 666 "dev/$device" c "$major" "$minor"
done <<'DEVICES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
pivot_root . mnt
exec env -i container=image-cri-shim-e2e PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . sh -c 'umount -l /mnt; mount --make-rshared /; exec "$@"' sh \\
  /lib/systemd/systemd --log-target=journal --show-status=0
"""


def missing() -> list[str]:
    """What this machine lacks for it."""
    lacking = [name for name in COMPONENTS if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    if sys.version_info[:2] != (3, 11):
        lacking.append("Python 3.11, as in Debian 12")
    if _cgroups() is None:
        lacking.append("a writable cgroup2 hierarchy")
    return lacking


def base() -> Path:
    """The unpacked Debian, made when it is not there yet (a minute or two)."""
    return unpacked(BASE, PACKAGES)


def unpacked(place: Path, packages: str, suite: str = "bookworm") -> Path:
    """`place` with the smallest Debian and these packages, made when it is not there yet."""
    if place.exists():
        return place
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with alone(place):  # who waits for another's finds it
        if not place.exists():
            _debootstrap(place, packages, suite)
    return place


def _debootstrap(place: Path, packages: str, suite: str) -> None:
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    variant = ["--variant=minbase", f"--include={packages}", f"--cache-dir={DOWNLOADS}"]
    with (place.parent / f"{place.name}.log").open("wb") as log:
        command = ["debootstrap", *variant, suite, str(partial), MIRROR]
        subprocess.run(command, stdout=log, stderr=log, check=True)
    partial.rename(place)


class Done(subprocess.CompletedProcess[str]):
    """How a command in the tree ended."""


class Machine:
    """One boot of the tree, between `boot` and `close`; with a disk it can be booted again."""

    prefix = PREFIX
    has_disk = False

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="systemd-e2e-"))
        parent = _cgroups()
        assert parent is not None
        self._cgroup = parent / f"image-cri-shim-e2e-{os.getpid()}-{self.directory.name}"
        self._init = 0
        for name in ("over", "tree", "files"):
            (self.directory / name).mkdir()
        self._install()
        self._process = Process("systemd", self._command(), self.directory / "console.log")

    @property
    def root(self) -> Path:
        """Its root directory, as this process can reach it."""
        return Path(f"/proc/{self._init}/root")

    @property
    def unpacked(self) -> Path:
        """What the boot will lay over Debian."""
        disk = self.directory / "over/upper"
        return disk if disk.exists() else self.directory / "files"

    def place(self, path: str) -> Path:
        """A file of the machine's."""
        return self.root / path.lstrip("/")

    def add(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file before the boot or after."""
        place = self.place(path) if self._init else self.unpacked / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def boot(self, timeout_s: float = 60) -> float:
        """Seconds until systemd has started everything."""
        started = time.monotonic()
        self.power_on()
        self.come_up(timeout_s)
        return time.monotonic() - started

    def power_on(self) -> None:
        """Begin to boot it. It ends with the thread that did this, as all of `Process` do."""
        if self.has_disk and not (self.directory / "plain").exists():
            self._lay_out()
        self._cgroup.mkdir()
        self._process.start()

    def come_up(self, timeout_s: float = 60) -> None:
        """Return when systemd has started everything."""
        wait_for("the namespaces", self._has_init, 20)
        wait_for("systemd", lambda: self.place("/run/systemd/private").exists(), 20)
        wait_for("the units", self._is_up, timeout_s)

    def run(self, *command: str, timeout_s: float = 60, check: bool = False) -> Done:
        """Run a command on the machine to its end."""
        done = subprocess.run(
            self.entering(*command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        result = Done(list(command), done.returncode, done.stdout, done.stderr)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    def entering(self, *command: str) -> list[str]:
        """The command line that runs a command on the machine."""
        spaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        environment = ["env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER="]
        return ["nsenter", f"--target={self._init}", *spaces, *environment, *command]

    def systemctl(self, *arguments: str, timeout_s: float = 60) -> None:
        """`systemctl arguments…`, which has to succeed."""
        self.run("systemctl", *arguments, check=True, timeout_s=timeout_s)

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, *arguments: str) -> str:
        """`journalctl -u image-cri-shim arguments…`."""
        return self.run("journalctl", "--unit=image-cri-shim", *arguments, check=True).stdout

    def halt(self) -> None:
        """End everything that runs in it, as a loss of power does."""
        self._process.kill()
        self._init = 0
        if self._cgroup.exists():
            _remove_cgroup(self._cgroup)

    def close(self) -> None:
        """End everything that runs in it; its mounts end with it."""
        self.halt()
        shutil.rmtree(self.directory)

    def _lay_out(self) -> None:
        """Its disk, with what lies over Debian."""
        for name in ("over/work", "plain"):
            (self.directory / name).mkdir()
        (self.directory / "files").rename(self.directory / "over/upper")

    def console(self) -> str:
        return self._process.tail()

    def _is_up(self) -> bool:
        """Whether systemd has started all that is enabled; some of it may have failed."""
        told = self.run("systemctl", "is-system-running", "--wait", timeout_s=60).stdout
        return told.strip() in {"running", "degraded"}

    def _has_init(self) -> bool:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError, ValueError):
            self._init = int(children.read_text())
        return self._init != 0

    def _command(self) -> list[str]:
        spaces = ["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--fork"]
        return [
            "sh",
            "-c",
            'echo $$ >"$0/cgroup.procs"; exec "$@"',
            str(self._cgroup),
            "unshare",
            *spaces,
            "--kill-child",
            "--propagation=private",
            "sh",
            "-c",
            _BOOT,
            "sh",
            str(self.directory),
            str(self._base()),
            self._packages(),
            f"{self.prefix}/packages",
        ]

    def _base(self) -> Path:
        """The unpacked system that it boots."""
        return base()

    def _packages(self) -> str:
        """The Python packages that it shares with this process; empty for none."""
        return sysconfig.get_path("platlib")

    def _install(self) -> None:
        """The project in a virtual environment of Debian's Python; what it needs is bound in."""
        self._install_project()
        link = self.unpacked / "usr/local/bin/image-cri-shim"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(COMMAND)

    def _install_project(self) -> None:
        prefix = self.unpacked / self.prefix.lstrip("/")
        site = prefix / "lib/python3.11/site-packages"
        shutil.copytree(_project(), site)
        (prefix / "packages").mkdir()
        (site / "packages.pth").write_text(f"{self.prefix}/packages\n")
        (prefix / "bin").mkdir()
        (prefix / "bin/python3").symlink_to("/usr/bin/python3")
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
        script = (site / "bin/image-cri-shim").read_text().split("\n", 1)[1]
        place = f"{self.prefix}/bin/image-cri-shim"
        self.add(place, f"#!{self.prefix}/bin/python3\n{script}", 0o755)


@functools.cache
def _project() -> Path:
    """The project as pip installs it, made once."""
    folder = Path(tempfile.mkdtemp(prefix="systemd-e2e-project-"))
    folder.chmod(0o755)  # as it is installed for everybody
    atexit.register(shutil.rmtree, folder)
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *isolation]
    subprocess.run([*command, f"--target={folder}", str(PROJECT)], check=True)
    return folder


@contextlib.contextmanager
def following(machine: Machine, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command on the machine that goes on by itself, such as `journalctl -f`."""
    process = subprocess.Popen(
        machine.entering(*command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def snapshot(machine: Machine, directories: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """Every file and link below the directories: kind, mode, owner, content."""
    found: dict[str, tuple[object, ...]] = {}
    for directory in directories:
        top = machine.place(directory)
        for place in sorted([top, *top.rglob("*")]):
            status = place.lstat()
            content: object = None
            if place.is_symlink():
                content = os.readlink(place)
            elif place.is_file():
                content = place.read_bytes()
            name = "/" + str(place.relative_to(machine.root))
            found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def _cgroups() -> Path | None:
    """Where a cgroup can be made."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2" and os.access(fields[4], os.W_OK):
            return Path(fields[4])
    return None


def _remove_cgroup(top: Path) -> None:
    def gone() -> bool:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        return not top.exists()

    wait_for(f"the end of {top}", gone, 10)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


@contextlib.contextmanager
def node(prepare: Callable[[Machine], None] | None = None) -> Iterator[Machine]:
    """A booted machine on which the stand-in runtime and a hub run.

    `prepare` may add files before the boot; `unpacked` is where they are until then.
    """
    machine = Machine()
    try:
        script = Path(__file__).with_name("systemd_node.py").read_text()
        machine.add("/opt/node.py", script)
        for name in ("__init__.py", "support"):  # what it imports, beside it
            _copy(PROJECT / "tests" / name, machine.unpacked / "opt/tests" / name)
        machine.add("/etc/hosts", "127.0.0.1 localhost sealos.hub\n")
        machine.add(
            "/etc/systemd/system/containerd.service",
            f"[Service]\nExecStart={PREFIX}/bin/python3 /opt/node.py\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        if prepare is not None:
            prepare(machine)
        machine.boot()
        machine.systemctl("start", "containerd.service")
        socket = machine.place("/run/containerd/containerd.sock")
        wait_for("the runtime", socket.exists, 20)
        yield machine
    finally:
        machine.close()
