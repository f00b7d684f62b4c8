"""The chart's image with this working tree in it, at any version, and releases that are broken.

The Python of the nodes' Debian is in the image, so that the same bundle runs in a pod and on a
node. It takes seconds to make, where `make image` takes minutes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from .images import CONFIG, LAYER, Blob, Entry, Image, docker_archive, tar
from .systemd_tree import PROJECT, base

NAME = "docker.io/library/image-cri-shim"
# Of Debian: an interpreter with what it loads, and the programs that the chart and the pod run.
DEBIAN = (
    *("bin", "lib", "lib64", "usr/bin/python3", "usr/bin/python3.11", "usr/bin/dash"),
    *("usr/bin/sh", "usr/bin/test", "usr/bin/cat", "usr/bin/ls", "usr/bin/sleep", "usr/bin/env"),
    *("usr/sbin/chroot", "usr/lib/python3.11", "usr/lib/python3", "usr/lib64"),
    *("usr/lib/x86_64-linux-gnu", "etc/passwd", "etc/group", "etc/ld.so.conf", "etc/ld.so.cache"),
)


class Release(StrEnum):
    """What is wrong with one: what its command does before it is the real one."""

    GOOD = ""
    DOES_NOT_START = """\
if "serve" in sys.argv:
    sys.exit("poisoned: does not start")
"""
    # It serves, and kubelet and the checks get the answers of a runtime that has nothing.
    ANSWERS_WRONGLY = '''\
if "serve" in sys.argv:
    import subprocess
    from shimcore.relay.proxy_connection import ProxyConnection

    wrong = "/tmp/wrong.sock"
    stand_in = """
import asyncio, sys
from shimcore.demo.runtime import StandInRuntime
loop = asyncio.new_event_loop()
loop.run_until_complete(StandInRuntime(sys.argv[1]).start())
loop.run_forever()
"""
    subprocess.Popen([sys.executable, "-c", stand_in, wrong])
    made = ProxyConnection.__init__

    def misled(self, relay, client):
        relay.upstream = lambda: wrong
        made(self, relay, client)

    ProxyConnection.__init__ = misled
'''


_COMMAND = """\
#!{prefix}/bin/python3
import sys
import shimcore

shimcore.__version__ = "{version}"
{fault}
from cli.main import run

run()
"""


class Images:
    """Made once, with a layer of their own for each release."""

    def __init__(self, prefix: str, folder: Path) -> None:
        self._prefix = prefix
        self._folder = folder
        self._below = [_debian(), self._packages()]

    def archive(self, version: str, release: Release = Release.GOOD) -> Path:
        """For `ctr images import`: NAME:version."""
        path = self._folder / f"fleet-{version}.tar"
        if not path.exists():
            image = self.image(version, release)
            docker_archive(image, f"{NAME}:{version}", path)
        return path

    def script(self, version: str, release: Release = Release.GOOD) -> bytes:
        """The command of a release: all that its bundle is."""
        values = {"prefix": self._prefix, "version": version, "fault": release.value}
        return _COMMAND.format(**values).encode()

    def image(self, version: str, release: Release = Release.GOOD) -> Image:
        """The image of a release."""
        script = self.script(version, release)
        sums = f"{hashlib.sha256(script).hexdigest()}  image-cri-shim\n".encode()
        bundle = tar([Entry("bundle/image-cri-shim", script, 0o755), Entry("bundle.sha256", sums)])
        return _image([*self._below, bundle])

    def _packages(self) -> bytes:
        """The project and what it needs, at the place where nodes have them."""
        target = self._folder / "packages"
        isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
        command = [sys.executable, "-m", "pip", "install", "--quiet", *isolation]
        limits = f"--constraint={PROJECT / 'constraints.txt'}"
        subprocess.run([*command, limits, f"--target={target}", f"{PROJECT}[fast]"], check=True)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            site = f"{self._prefix.lstrip('/')}/lib/python3.11/site-packages"
            archive.add(target, site, filter=_owned_by_root)
            home = b"home = /usr/bin\nversion = 3.11\n"
            member = tarfile.TarInfo(f"{self._prefix.lstrip('/')}/pyvenv.cfg")
            member.size = len(home)
            archive.addfile(member, io.BytesIO(home))
            link = tarfile.TarInfo(f"{self._prefix.lstrip('/')}/bin/python3")
            link.type, link.linkname = tarfile.SYMTYPE, "/usr/bin/python3"
            archive.addfile(link)
        return out.getvalue()


def _debian() -> bytes:
    """Of the nodes' tree what a Python needs."""
    names = [name for name in DEBIAN if (base() / name).exists() or (base() / name).is_symlink()]
    skipped = ["--exclude=*.pyc", "--exclude=perl*", "--exclude=gconv"]
    command = ["tar", "--create", f"--directory={base()}", *skipped, *names]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _image(layers: Iterable[bytes]) -> Image:
    layers = list(layers)
    value = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/bundle/image-cri-shim"],
            "Cmd": ["fleet", "agent"],
            "Env": ["PATH=/usr/sbin:/usr/bin"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers],
        },
    }
    blobs = tuple(Blob(LAYER, each) for each in layers)
    return Image(Blob(CONFIG, json.dumps(value).encode()), blobs)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member
