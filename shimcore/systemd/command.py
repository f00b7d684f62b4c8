"""Where the console command is, for ExecStart."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.systemd.root import Root

NAME = "image-cri-shim"
_IN_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# Directories of virtual environments and of unpacked tarballs.
_ABOVE = (f"/opt/{NAME}", "/opt", "/srv", "/usr/local/lib", "/root")


def command_path(root: Root, argv0: str | None = None) -> str:
    """The absolute path of the command, links in it not followed: they outlive upgrades.

    The command that runs now, else the one in PATH, else the one beside this Python; in an
    unpacked image the one that is in it. Raises ShimError when there is none.
    """
    own = [
        os.path.abspath(each)
        for each in (
            sys.argv[0] if argv0 is None else argv0,
            shutil.which(NAME),
            str(Path(sys.prefix) / "bin" / NAME),
        )
        if each and os.path.basename(each) == NAME
    ]
    for path in own if root.is_machine else [*_in_image(root), *own]:
        if os.access(root.host(path), os.X_OK) and root.host(path).is_file():
            return path
    if root.is_machine:
        raise ShimError(f"there is no {NAME} command beside this Python; name it with --command")
    raise ShimError(f"{root.directory} has no {NAME} command; name it with --command")


def _in_image(root: Root) -> Iterator[str]:
    """Where an unpacked image may have it."""
    yield from (f"{directory}/{NAME}" for directory in _IN_PATH)
    for above in _ABOVE:
        for each in root.names(above):
            yield f"{above}/{each}/{NAME}"
            yield f"{above}/{each}/bin/{NAME}"
