"""How this machine's kubelet is started, and where it has its endpoints from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shimcore.errors import ShimError
from shimcore.systemd import envfile, unitfile
from shimcore.systemd.root import Root
from shimcore.systemd.unitfile import ServiceUnit
from shimcore.systemd.units import modern
from shimcore.unixsocket import socket_path

UNIT = "kubelet.service"
EXTRA_ARGS = "KUBELET_EXTRA_ARGS"
RUNTIME_FLAG = "--container-runtime-endpoint"
IMAGE_FLAG = "--image-service-endpoint"
FLAGS = (RUNTIME_FLAG, IMAGE_FLAG)
RUNTIME_KEY = "containerRuntimeEndpoint"
IMAGE_KEY = "imageServiceEndpoint"
KEYS = (RUNTIME_KEY, IMAGE_KEY)
KUBEADM_CONFIG = "/var/lib/kubelet/config.yaml"
KUBEADM_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
EXTRA_ARGS_FILES = ("/etc/default/kubelet", "/etc/sysconfig/kubelet")

# kubeadm's 10-kubeadm.conf, for a machine whose unit is not where systemd keeps units.
_KUBEADM_UNIT = """\
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
EnvironmentFile=-/etc/sysconfig/kubelet
ExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS \
$KUBELET_EXTRA_ARGS
"""


_FromFiles = dict[str, tuple[str, str]]
"""Variables of a unit's environment files: name → (value, file)."""
_Origins = list[tuple[str, str]]
"""The words of a command, each with the variable that gives it, "" for none."""


class Origin(StrEnum):
    """Where a flag comes from."""

    ENV_FILE = "environment file"
    UNIT_VARIABLE = "variable of the unit"
    EXEC_START = "ExecStart"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that kubelet is given: its value, and what has to change for another."""

    name: str
    value: str
    origin: Origin
    variable: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What kubelet is started with."""

    unit: ServiceUnit | None
    config: str | None
    config_dir: str | None
    flags: tuple[Flag, ...]
    endpoint: str | None
    """The runtime endpoint in force, as it is written; None where kubelet's default counts."""
    extra_args_file: str | None
    """The environment file from which the command line takes KUBELET_EXTRA_ARGS."""

    def value(self, name: str) -> str | None:
        """What a flag of it says; None where it is not given."""
        return next((flag.value for flag in self.flags if flag.name == name), None)


def find(
    root: Root, running: Sequence[str] | None = None, without: Collection[str] = ()
) -> Kubelet:
    """The kubelet of `root`; `running` is the command line of one that runs.

    `without`: drop-ins of its unit that are passed over. Raises ShimError when there is none.
    """
    unit = unitfile.read_service(root, UNIT, without)
    if unit is None and running is not None:
        return of_process(root, running)
    if unit is None and (root.exists(KUBEADM_CONFIG) or root.exists(KUBEADM_FLAGS)):
        unit = ServiceUnit()
        unit.apply(_KUBEADM_UNIT)
    if unit is None:
        raise ShimError(
            f"no kubelet found: there is no {UNIT}, no {KUBEADM_CONFIG}, and none is running"
        )
    origins = unit.origins(unitfile.variables(root, unit))
    return _kubelet(root, unit, origins, unitfile.file_variables(root, unit))


def of_process(root: Root, running: Sequence[str]) -> Kubelet:
    """The kubelet that has this command line, whatever its unit says. Raises ShimError."""
    return _kubelet(root, None, [(word, "") for word in running], {})


def _kubelet(
    root: Root, unit: ServiceUnit | None, origins: _Origins, from_files: _FromFiles
) -> Kubelet:
    arguments = [word for word, _ in origins]
    config = envfile.flag_value(arguments, "--config")
    config_dir = envfile.flag_value(arguments, "--config-dir")
    flags = tuple(
        flag for name in FLAGS if (flag := _flag(unit, name, origins, from_files)) is not None
    )
    return Kubelet(
        unit=unit,
        config=config,
        config_dir=config_dir,
        flags=flags,
        endpoint=_endpoint(root, flags, config, config_dir),
        extra_args_file=None if unit is None else _extra_args_file(root, unit, from_files),
    )


def running_command_line(proc: Path = Path("/proc")) -> list[str] | None:
    """The command line of a running kubelet; None when none runs."""
    found = running_process(proc)
    return None if found is None else found[1]


def running_process(
    proc: Path = Path("/proc"), names: Sequence[str] = ("kubelet",)
) -> tuple[int, list[str]] | None:
    """The number and the command line of root's running program with one of these names, or None.

    Any user's process may call itself kubelet. One in a PID namespace of its own (a node in a
    container) is another node's.
    """
    ours = _namespace(proc / "self")
    for entry in proc.iterdir() if proc.is_dir() else ():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _namespace(entry) == ours and _is_root(entry):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                # k3s writes itself a title, which is one word with blanks.
                if words[0].rpartition("/")[2].partition(" ")[0] in names:
                    return int(entry.name), words[:-1]
    return None


def _is_root(process: Path) -> bool:
    """Whether root has started a process: a user's with the setuid bit has another real user."""
    return b"\nUid:\t0\t0\t0\t0\n" in (process / "status").read_bytes()


def _namespace(process: Path) -> str:
    """The PID namespace of a process (proc(5), ns/pid); "" where that is not told."""
    with contextlib.suppress(OSError):
        return os.readlink(process / "ns/pid")
    return ""


def _flag(
    unit: ServiceUnit | None, name: str, origins: _Origins, from_files: _FromFiles
) -> Flag | None:
    """The flag that counts, the last of its name; None where it is not given."""
    arguments = [word for word, _ in origins]
    place = envfile.flag_place(arguments, name)
    value = envfile.flag_value(arguments, name)
    if place is None or value is None:
        return None
    if unit is None:
        return Flag(name, value, Origin.ELSEWHERE)
    variable = origins[place][1]
    content, file = from_files.get(variable, (unit.environment.get(variable, ""), ""))
    if envfile.flag_value(envfile.words(content), name) != value:
        return Flag(name, value, Origin.EXEC_START)  # at least the value stands there
    return Flag(name, value, Origin.ENV_FILE if file else Origin.UNIT_VARIABLE, variable, file)


def _endpoint(
    root: Root, flags: tuple[Flag, ...], config: str | None, config_dir: str | None
) -> str | None:
    for flag in flags:
        if flag.name == RUNTIME_FLAG:
            return flag.value
    found = None
    for path in config_files(root, config, config_dir):
        found = root.keys(path, (RUNTIME_KEY,))[RUNTIME_KEY] or found
    return found


def config_files(root: Root, config: str | None, config_dir: str | None) -> list[str]:
    """The files of `--config` and `--config-dir`, the last one wins."""
    files = [] if config is None else [config]
    if config_dir is not None:
        files += [f"{config_dir}/{n}" for n in root.names(config_dir) if n.endswith(".conf")]
    return files


def _extra_args_file(root: Root, unit: ServiceUnit, from_files: _FromFiles) -> str | None:
    if not unit.uses(EXTRA_ARGS):
        return None
    if EXTRA_ARGS in from_files:
        return from_files[EXTRA_ARGS][1]
    known = [path for path in unit.files if path in EXTRA_ARGS_FILES]
    there = [path for path in known if root.exists(path.rpartition("/")[0])]
    return next(iter(there or known), None)


def same_socket(root: Root, endpoint: str, path: str) -> bool:
    """Whether an endpoint (`unix:///run/x.sock`, or its path) is the socket at `path`."""
    return _real(root, endpoint) == _real(root, path)


def asked_here(root: Root, arguments: Sequence[str], shim_socket: str) -> tuple[bool, bool]:
    """Whether images, and whether sandboxes, come to the shim by kubelet's arguments."""
    sandboxes = envfile.flag_value(arguments, RUNTIME_FLAG) or ""
    images = envfile.flag_value(arguments, IMAGE_FLAG) or sandboxes
    return same_socket(root, images, shim_socket), same_socket(root, sandboxes, shim_socket)


def _real(root: Root, endpoint: str) -> str:
    path = socket_path(endpoint)
    if not path.startswith("/"):
        return path
    return root.real(modern(path))
