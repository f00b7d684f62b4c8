"""Sockets and files of an installation, as the service will find them."""

from __future__ import annotations

import asyncio
import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shimcore.config.document import read_document
from shimcore.config.reading import texts
from shimcore.errors import ShimError
from shimcore.runtime.detection import KNOWN_SOCKETS, live_sockets, with_cri
from shimcore.systemd import unitfile
from shimcore.systemd.root import Root
from shimcore.systemd.units import SERVICE
from shimcore.unixsocket import socket_path

DEFAULT_SHIM = "/var/run/image-cri-shim.sock"
# The service has directories of its own there (PrivateTmp=).
HIDDEN = ("/tmp/", "/var/tmp/", "/dev/")  # noqa: S108


def shim_socket(root: Root, config_file: str) -> str:
    """The path of the shim's socket, as the configuration has it. Raises ShimError."""
    return path_of("shim", settings(root, config_file).get("shim", DEFAULT_SHIM))


def settings(root: Root, config_file: str) -> dict[str, str]:
    """The texts at the top of the configuration, as `serve` reads them, whatever else is wrong.

    Raises ShimError for a file that cannot be read.
    """
    tree, faults = read_document(root.text(config_file) or "")
    if not isinstance(tree, dict) and (tree or faults):
        reason = faults[0] if faults else "not a mapping of keys to values"
        raise ShimError(f"{config_file}: {reason}")
    return texts(tree)


def runtime_socket(root: Root, named: str | None) -> str | None:
    """The runtime's socket: as named, else the only one that is there. Raises ShimError."""
    if named:
        return path_of("cri", named)
    there = sockets(root)
    return next(iter(there.values())) if len(there) == 1 else None


def sockets(root: Root) -> dict[str, str]:
    """The runtimes' sockets that are there, each once: where it really is → its path.

    On this machine those alone that may have CRI: Docker's containerd comes with that disabled.
    """
    if root.is_machine:
        there = live_sockets(KNOWN_SOCKETS)
        there = asyncio.run(with_cri(there)) if len(there) > 1 else there
    else:
        there = [path for path in KNOWN_SOCKETS if root.exists(path)]
    found: dict[str, str] = {}
    for path in there:
        found.setdefault(root.real(path), path)
    return found


def path_of(key: str, value: str) -> str:
    """The socket or folder that a key names. Raises ShimError for a path that is not absolute."""
    path = socket_path(value)
    if not path.startswith("/"):
        raise ShimError(f"{key}: an absolute path expected, not {value!r}")
    return path


def installed_file(root: Root) -> str | None:
    """The configuration of the service that was installed here; None without one. Raises ShimError.

    As its unit has it now, which an administrator, or sealos' image-cri-shim, may have written.
    """
    words = iter(unitfile.command(root, SERVICE)[1:])
    named = ""
    for word in words:
        if word in ("-f", "--file"):
            named = next(words, "")
        elif word.startswith(("-f", "--file=")):
            named = word.removeprefix("-f").removeprefix("--file=")
    return posixpath.join("/", named) if named else None


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """A file that the service cannot read for the mode of `at`: its own, or of a folder above."""

    path: str
    at: str

    def __str__(self) -> str:
        inside = "" if self.at == self.path else f", since it cannot enter {self.at}"
        return f"the service cannot read {self.path}{inside}"

    @property
    def mend(self) -> str:
        """A command that opens it to the service."""
        if self.at == self.path:
            return f"chown root {self.path} && chmod u+r {self.path}"
        return f"chmod a+x {self.at}  # or keep {self.path} elsewhere, below /etc"


def closed(paths: Iterable[str], root: Root) -> list[ClosedFile]:
    """Those of the files at `paths`, as this process has them, that root cannot read bare.

    The service has no CAP_DAC_OVERRIDE: what belongs to somebody else has to be open to everybody,
    or to root's group. Folders count inside the root.
    """
    found = []
    for path in filter(os.path.exists, paths):
        real = Path(os.path.realpath(path))
        above = reversed([*Path(path).parents, *real.parents])
        inside = [each for each in above if root.directory in each.parents]
        shut = [str(each) for each in inside if not _allows(each, stat.S_IXOTH)]
        shut += [] if _allows(real, stat.S_IROTH) else [path]
        found += [ClosedFile(path, at) for at in shut[:1]]
    return found


def _allows(path: Path, permission: int) -> bool:
    """Whether the mode gives root that permission (as others have it), powers aside."""
    status = path.stat()
    shift = 6 if status.st_uid == 0 else 3 if status.st_gid == 0 else 0
    return bool(status.st_mode >> shift & permission)


def hidden(paths: Iterable[str]) -> list[str]:
    """Those of this machine's files that are not there for the service, by name or by a link."""
    return [
        path
        for path in paths
        if path.startswith(HIDDEN) or os.path.realpath(path).startswith(HIDDEN)
    ]


def check_files(paths: Sequence[str], root: Root) -> None:
    """Raises ShimError for files that the service would not see, or not be let read."""
    if unseen := hidden(paths):
        raise ShimError(f"the service cannot see {', '.join(unseen)}; use another directory")
    for each in closed(paths, root):
        raise ShimError(f"{each}; {each.mend}")
