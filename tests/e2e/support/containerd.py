"""A containerd of the tests' own: its root, state and socket lie in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .process import Process, command_lines, descendants, mounts_below, unix_answers
from .systemd_tree import BUILT

# Where .ci/install puts what is built for these tests and is on nobody's PATH.
LIBRARY = Path("/usr/local/lib/image-cri-shim-e2e")

# containerd 1.x.
CONFIG_VERSION_2 = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{directory}/runc"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{directory}/certs.d"
"""

# containerd 2.x. NRI would listen on one socket of the whole machine.
CONFIG_VERSION_3 = """\
version = 3
imports = []
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{sandbox_image}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{directory}/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{directory}/runc"
"""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of containerd: its programs, its version, the CRI that it speaks."""

    name: str
    programs: Path
    version: tuple[int, int]
    cri_versions: tuple[str, ...] = ("v1",)

    @property
    def config(self) -> str:
        """A template of its configuration."""
        if self.version < (2, 0):
            return CONFIG_VERSION_2
        if self.version < (2, 1):
            return CONFIG_VERSION_3.replace(
                'bin_dirs = ["/usr/lib/cni"]', 'bin_dir = "/usr/lib/cni"'
            )
        return CONFIG_VERSION_3

    @property
    def pins(self) -> bool:
        """Whether it marks the pause image, so that nobody collects it."""
        return self.version >= (1, 7)

    def missing(self) -> list[str]:
        """Its programs that are not there."""
        names = ("containerd", "containerd-shim-runc-v2", "ctr")
        return [str(self.programs / name) for name in names if not (self.programs / name).exists()]


DEBIAN = Release("debian", Path("/usr/bin"), (1, 6), ("v1", "v1alpha2"))
# The newest, at the version in .ci/tools/containerd/go.mod.
NEWEST = Release("newest", LIBRARY / "containerd", (2, 4))
# What tests/e2e/stock/build makes of those between.
BETWEEN = tuple(
    Release(f"{major}.{minor}", BUILT / f"containerd-{major}.{minor}", (major, minor))
    for major, minor in ((1, 7), (2, 0), (2, 1))
)
# `make e2e-containerd` has the others.
RELEASES = BETWEEN if "E2E_BETWEEN" in os.environ else (DEBIAN, NEWEST)

# Pods of the tests use the node's network; this makes the CRI plugin report NetworkReady.
CNI = """\
{"cniVersion": "0.4.0", "name": "e2e", "plugins": [{"type": "loopback"}]}
"""


class Containerd(Process):
    """One containerd with its CRI plugin; `kill()` and `start()` again play a crash."""

    def __init__(
        self,
        directory: Path,
        *,
        sandbox_image: str,
        release: Release = DEBIAN,
        network: str = CNI,
        more: str = "",
        called: str = "containerd",
    ) -> None:
        """`more`: tables for its configuration. `called`: the name of its program."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.release = release
        self.socket = directory / "containerd.sock"
        config = directory / "config.toml"
        values = {"directory": directory, "socket": self.socket, "sandbox_image": sandbox_image}
        config.write_text(release.config.format(**values) + more)
        program = release.programs / "containerd"
        if called != program.name:
            program = directory / called
            program.unlink(missing_ok=True)
            program.symlink_to(release.programs / "containerd")
        (directory / "cni").mkdir(exist_ok=True)
        (directory / "cni" / "10-e2e.conflist").write_text(network)
        super().__init__(
            f"containerd ({release.name})",
            [program, "--config", config],
            directory / "log",
            env={"PATH": f"{release.programs}:{os.environ['PATH']}"},  # where it finds its shim
        )

    def serve(self, timeout_s: float = 30) -> float:
        """Seconds until its CRI plugin answers."""
        return self.start(self._answers, timeout_s)

    def _answers(self) -> bool:
        return unix_answers(self.socket) and self._cri_is_loaded()

    def _cri_is_loaded(self) -> bool:
        run = subprocess.run(
            ["crictl", "--timeout", "2s", "-r", f"unix://{self.socket}", "version"],
            capture_output=True,
            check=False,
        )
        return run.returncode == 0

    def route(self, host: str, server: str, *, ca: Path | None = None) -> None:
        """Sends pulls of `host` to the URL `server`; read by containerd at each pull."""
        hosts = self.directory / "certs.d" / host / "hosts.toml"
        hosts.parent.mkdir(parents=True, exist_ok=True)
        text = f'server = "{server}"\n\n[host."{server}"]\n  capabilities = ["pull", "resolve"]\n'
        if ca is not None:
            text += f'  ca = "{ca}"\n'
        hosts.write_text(text)

    def ctr(self, *arguments: str | Path) -> str:
        """What `ctr` prints, in the namespace of Kubernetes."""
        run = subprocess.run(
            [self.release.programs / "ctr", "-a", self.socket, "-n", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"ctr {arguments}: {run.stderr}"
        return run.stdout

    def load(self, archive: Path) -> None:
        """Puts a docker archive's images into the store, as `ctr images import` does."""
        self.ctr("images", "import", archive)

    def close(self) -> None:
        """Ends it, its containers and their shims, and unmounts what they left."""
        self.stop()
        shims = {
            pid
            for pid, arguments in command_lines().items()
            if arguments and "containerd-shim" in arguments[0] and str(self.socket) in arguments
        }
        for pid in descendants(shims) | shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for point in mounts_below(self.directory):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
