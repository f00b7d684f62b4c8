"""The configuration: its file, who can read it, logins, the clock, room on the disks, names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from shimcore.cluster.checking import files_of
from shimcore.config import Config, Fallback
from shimcore.config.files import SilentFileError
from shimcore.config.model import Names
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.registry_mends import SET_CLOCK, in_docker_config
from shimcore.systemd.places import closed
from shimcore.threads import in_time

DAY_S = 86_400.0
FULL_BYTES = 64 << 20
"""With less room no image is unpacked, and no state is kept."""

NEARLY_FULL = 0.05
_ANSWER_S = 2.0
"""Of a disk: the other checks wait for it meanwhile."""
_PRUNE = "crictl rmi --prune  # unused images; more room otherwise"
STORES = ("/var/lib/containerd", "/var/lib/containers", "/var/lib/docker")


async def look(node: Node) -> list[Finding]:
    """All of it."""
    found = [*_file(node)]
    config = node.config
    if config is not None:
        found += [
            *_logins(config),
            *_notices(node, config),
            *_readable(node, config),
            _names(config),
        ]
        found += _clock(config)
        found += [*_disks(node, config)]
    return found


def _file(node: Node) -> list[Finding]:
    check, error = "configuration", node.config_error
    if error is None:
        config = node.facts.get("config", {})
        if node.facts.get("serving") and not config.get("valid", True):
            return [failed(check, config["error"], "systemctl reload image-cri-shim")]
        return [passed(check, f"{node.endpoint.file} can be used")]
    check_it = f"image-cri-shim config check {node.endpoint.file} says when it is right"
    mend = f"mend it; {check_it}{node.reload}"
    last = f"mend {error.source}{node.reload}"
    there = True
    with suppress(TimeoutError):
        there = in_time(partial(os.path.lexists, error.source), _ANSWER_S)
    if not there:
        written = f"write {error.source} (image-cri-shim config init)"
        mend = f"{written}, or name the one that there is with -f FILE"
    if isinstance(error, SilentFileError):
        mend = last = f"see the disk that {error.file} is on"
    found = [failed(check, f"{error.source}: {fault}", mend) for fault in error.faults]
    if node.start is not None:
        kept = datetime.fromtimestamp(node.start.good_at, UTC).isoformat()
        why = f"the last good configuration, kept at {kept}, is what serves"
        found.append(failed("last good configuration", why, last))
    return found


def _logins(config: Config) -> list[Finding]:
    mend = "write the address beside the login, in the same document"
    return [failed("logins", str(lone), mend) for lone in config.lone_logins]


def _notices(node: Node, config: Config) -> list[Finding]:
    lone = set(map(str, config.lone_logins))
    mend = "mend it in the file, or leave it: it works"
    paths = [config.source, *(stamp.path for stamp in config.files)]
    mends = {f"{path} holds a login": f"chmod 600 {path}" for path in paths}
    mends["it holds a login"] = f"chmod 600 {config.source}"
    for one in config.registries:
        if one.docker_config and one.credentials is None:  # it works only where none is asked for
            put = f"{in_docker_config(one.docker_config, one.host)}{node.reload}"
            mends[f"{one.key}.dockerConfig: "] = put
    found = []
    for notice in config.notices:
        typed = [command for begin, command in mends.items() if notice.startswith(begin)]
        if notice not in lone:
            found.append(warned("configuration", notice, typed[0] if typed else mend))
    return found


def _readable(node: Node, config: Config) -> list[Finding]:
    """The service has not all of root's powers."""
    try:
        found = in_time(partial(closed, files_of(config), node.root), _ANSWER_S)
    except TimeoutError:
        return []  # which is told of the file
    return [failed("file modes", str(each), each.mend) for each in found]


def _names(config: Config) -> Finding:
    if config.names is Names.REGISTRY:
        why = "names: registry leaves images under the registry's names alone"
        return warned("names", why, "names: original, unless that is wanted")
    denied = ", original names are denied (fallback: deny)"
    rest = denied if config.fallback is Fallback.DENY else ""
    return passed("names", f"after a pull: {config.names.value}{rest}")


def _clock(config: Config) -> list[Finding]:
    """A clock that is behind the configuration's own file makes certificates begin later."""
    try:
        there = in_time(partial(os.stat, config.source), _ANSWER_S)
    except OSError:
        return []
    ahead_s = there.st_mtime - time.time()
    if ahead_s < DAY_S:
        return []
    why = f"the clock is {ahead_s / DAY_S:.0f} days behind the time of {config.source}"
    return [failed("clock", why, f"{SET_CLOCK}  # with the right time, or start its time server")]


def _disks(node: Node, config: Config) -> list[Finding]:
    found = [*_disk(config.state_dir, makes=True)]
    for store in STORES:
        found += _disk(str(node.root.host(store)), makes=False)
    return found


def _disk(path: str, *, makes: bool) -> Iterator[Finding]:
    """What is wrong with the disk of a folder, which the shim `makes` where it is not there."""
    try:
        disk = in_time(partial(_disk_of, path, makes=makes), _ANSWER_S)
    except (FileNotFoundError, PermissionError):
        return  # no such store; or nothing that this user may see
    except TimeoutError:
        yield failed("disk", f"{path}: it does not answer", f"see the disk that {path} is on")
        return
    except OSError as error:
        mend = f"make {path} a folder that can be written"
        yield failed("disk", f"{path}: {error.strerror}", mend)
        return
    if disk.f_flag & os.ST_RDONLY:
        mend = f"mount the disk of {path} for writing; dmesg may say why it is not"
        yield failed("disk", f"{path} is on a file system that is read-only", mend)
        return
    bytes_left, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if bytes_left < max(FULL_BYTES, size * NEARLY_FULL):
        said = f"{path} has {bytes_left / 1e6:,.0f} MB left"
        mend = f"make room on the disk of {path}" if makes else _PRUNE
        yield (failed if bytes_left < FULL_BYTES else warned)("disk", said, mend)
    if disk.f_favail < disk.f_files * NEARLY_FULL:  # Btrfs, which has no such bound, says 0 of 0
        said = f"{path} has {disk.f_favail:,} inodes left"
        mend = f"remove files on the disk of {path} (df -i)" if makes else _PRUNE
        yield (warned if disk.f_favail else failed)("disk", said, mend)


def _disk_of(path: str, *, makes: bool) -> os.statvfs_result:
    """That of the folder, or where it `makes` one, that on which it would be. Raises OSError."""
    while True:
        try:
            return os.statvfs(os.path.join(path, ""))
        except FileNotFoundError:
            if not makes:
                raise
            path = os.path.dirname(path)
