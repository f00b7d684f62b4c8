"""A Debian with a stock runtime (containerd), runc and crictl, whose registries have names.

The project is not on it: packages for `pip install` are, in place of PyPI.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from .containerd import DEBIAN, NEWEST, Release
from .network import Link
from .process import wait_for
from .systemd_tree import PROJECT, Done, Machine

HUB, HARBOR = "sealos.hub", "harbor.example.com"
HUB_PORT, HARBOR_PORT = 5000, 443
CONTAINERD = "unix:///run/containerd/containerd.sock"
SHIM = "unix:///run/image-cri-shim.sock"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
DEBIAN_UNIT = Path("/lib/systemd/system/containerd.service")
# The newest containerd comes without any.
CONFIGS = {DEBIAN: Path(CONTAINERD_CONFIG)}
# Tag of registry.k8s.io/pause, by default.
PAUSES = {DEBIAN: "3.6", NEWEST: "3.10.2"}
RUNC = "/usr/sbin/runc"
N = TypeVar("N", bound="StockNode")
# Without CAP_SYS_RESOURCE nothing can be shielded from the OOM killer, and in namespaces of its own
# a machine has no cgroup controllers: what is asked of both is left out. So is the namespace that
# docker 29 asks for, which the runc of Debian 12 does not know.
RUNC_HERE = f"""\
#!/usr/bin/python3
import json, os, sys

words = sys.argv[1:]
if "--bundle" in words:
    path = words[words.index("--bundle") + 1] + "/config.json"
    with open(path) as file:
        spec = json.load(file)
    spec["process"].pop("oomScoreAdj", None)
    spec["linux"].pop("resources", None)
    spaces = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [each for each in spaces if each["type"] != "time"]
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv("{RUNC}", ["runc", *words])
"""


def wheels(directory: Path) -> Path:
    """The directory with the project and all that it needs, as `pip install` finds them."""
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    limits = f"--constraint={PROJECT / 'constraints.txt'}"
    place = f"--wheel-dir={directory}"
    subprocess.run([*command, *isolation, limits, place, f"{PROJECT}[fast]"], check=True)
    return directory


def missing(release: Release) -> list[str]:
    """What this machine lacks beside what `systemd_tree.missing` knows of."""
    names = ("docker-registry", "htpasswd", "crictl", "ip", "skopeo", RUNC)
    lacking = [name for name in names if shutil.which(name) is None]
    return [*lacking, *release.missing(), *DEBIAN.missing()]


class StockNode(Machine):
    """One boot; the registries are reached by their names at the link's address."""

    # The last part of its own address on the link.
    number = 2
    endpoint = CONTAINERD
    units: tuple[str, ...] = ("containerd.service",)
    # Where containerd keeps its images: no overlay can be laid over an overlay.
    store = "/var/lib/containerd"
    # How long its runtime may take to answer.
    answers_s = 30

    def __init__(self, release: Release, link: Link, wheelhouse: Path) -> None:
        self.release = release
        self._link = link
        self._wheelhouse = wheelhouse
        super().__init__()

    def _packages(self) -> str:
        return ""

    def _install(self) -> None:
        self._install_runtime()
        self.add("/etc/fstab", f"tmpfs {self.store} tmpfs defaults 0 0\n")
        self.add("/etc/hosts", f"127.0.0.1 localhost\n{self._link.ip} {HUB} {HARBOR}\n")
        shutil.copytree(self._wheelhouse, self.unpacked / "srv/wheels")
        self.add("/etc/pip.conf", "[install]\nno-index = true\nfind-links = /srv/wheels\n")

    def _install_runtime(self) -> None:
        """containerd as its release comes, runc and crictl."""
        for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
            self._copy(self.release.programs / name, "/usr/bin")
        self._install_tools()
        self.add("/usr/lib/systemd/system/containerd.service", DEBIAN_UNIT.read_text())
        if self.release in CONFIGS:
            self.add(CONTAINERD_CONFIG, CONFIGS[self.release].read_text())
        (self.unpacked / "var/lib/containerd").mkdir(parents=True)

    def _install_tools(self) -> None:
        """runc, as it can run here, and crictl."""
        self._copy(Path(RUNC), "/usr/sbin")
        self.add("/usr/local/sbin/runc", RUNC_HERE, 0o755)
        self._copy(Path(shutil.which("crictl") or ""), "/usr/local/bin")

    def _copy(self, program: Path, directory: str) -> None:
        place = self.unpacked / directory.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, place / program.name)

    @property
    def pause(self) -> str:
        """The pause image that its containerd asks for."""
        return f"registry.k8s.io/pause:{PAUSES[self.release]}"

    def sh(self, line: str, *, check: bool = True, timeout_s: float = 120) -> Done:
        """A line as it is typed into a shell."""
        return self.run("sh", "-c", line, check=check, timeout_s=timeout_s)

    def crictl(self, *words: str, endpoint: str = SHIM, timeout_s: int = 60) -> Done:
        """crictl, on the shim unless told otherwise."""
        ends = ("-r", endpoint, "-i", endpoint, "--timeout", f"{timeout_s}s")
        return self.run("crictl", *ends, *words, timeout_s=timeout_s + 30)

    def start_pod(self, name: str, image: str) -> str:
        """The id of a container that runs in a pod of its own; the image is not pulled."""
        self.add(f"/root/pod-{name}.json", json.dumps(_pod(name)))
        self.add(f"/root/main-{name}.json", json.dumps(_container(image)))
        files = (f"/root/main-{name}.json", f"/root/pod-{name}.json")
        pod = self._told(self.crictl("runp", files[1]))
        container = self._told(self.crictl("create", pod, *files))
        self._told(self.crictl("start", container))
        return container

    def running(self, endpoint: str = SHIM) -> set[str]:
        """The ids of the containers that run."""
        listed = self.crictl("ps", "--state", "running", "--quiet", "--no-trunc", endpoint=endpoint)
        return set(self._told(listed).split())

    def clear(self) -> None:
        """Remove every pod and every image."""
        for words in (("rmp", "--all", "--force"), ("rmi", "--all")):
            self.crictl(*words, endpoint=self.endpoint)

    @property
    def has_config(self) -> bool:
        """Whether its containerd comes with a configuration file."""
        return self.release in CONFIGS

    def restore_containerd(self) -> None:
        """Its configuration as it came, and containerd started with that."""
        if self.has_config:
            self.add(CONTAINERD_CONFIG, CONFIGS[self.release].read_text())
        else:
            self.sh(f"rm {CONTAINERD_CONFIG} && rmdir /etc/containerd")
        self.sh("systemctl restart containerd")
        self.wait_for_runtime()

    def doctor(self, pull: str = "", *, before: str = "") -> list[dict[str, str]]:
        """What `doctor` finds; `before` is typed in the same shell."""
        proof = f" --pull {pull}" if pull else ""
        line = f"{before}image-cri-shim doctor -o json{proof}"
        found: list[dict[str, str]] = json.loads(self.sh(line, check=False).stdout)
        return found

    def wait_for_runtime(self) -> None:
        """Until its runtime answers over CRI."""
        wait_for(
            "CRI",
            lambda: self.crictl("version", endpoint=self.endpoint).returncode == 0,
            self.answers_s,
        )

    @property
    def ip(self) -> str:
        """Its address on the link."""
        return f"{self._link.ip.rpartition('.')[0]}.{self.number}"

    def plug(self) -> None:
        """Join it to the link; its end goes with it."""
        network = self.root.parent / "ns/net"
        port, end = f"{self._link.name}a{self.number}", f"{self._link.name}b{self.number}"
        # That of the boot before goes some time after its last process.
        wait_for(f"the end of {port}", lambda: not Path("/sys/class/net", port).exists(), 10)
        inside = ["nsenter", f"--net={network}", "ip"]
        for words in (
            ["ip", "link", "add", port, "type", "veth", "peer", "name", end],
            ["ip", "link", "set", port, "master", self._link.name, "up"],
            ["ip", "link", "set", end, "netns", network.parts[2]],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "address", "add", f"{self.ip}/24", "dev", end],
            [*inside, "link", "set", end, "up"],
        ):
            subprocess.run(words, check=True, capture_output=True)

    @staticmethod
    def _told(done: Done) -> str:
        assert done.returncode == 0, f"{done.args}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


@contextlib.contextmanager
def serving(machine: N) -> Iterator[N]:
    """The same, booted, whose runtime serves."""
    try:
        machine.boot()
        machine.plug()
        machine.systemctl("enable", "--now", *machine.units)
        machine.wait_for_runtime()
        yield machine
    finally:
        machine.close()


def _pod(name: str) -> dict[str, Any]:
    """On the node's network (namespace option NODE = 2)."""
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default", "attempt": 0},
        "linux": {"security_context": {"namespace_options": {"network": 2}}},
    }


def _container(image: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "main"},
        "image": {"image": image, "user_specified_image": image},
        "command": ["sleep", "100000"],
        "linux": {},
    }
