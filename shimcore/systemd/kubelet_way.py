"""Whether kubelet's calls come to the shim: as the running process has it, else as its files say.

Cheap, and never an error: a machine without a kubelet, or whose files this user may not read,
has an answer, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from shimcore.errors import ShimError
from shimcore.runtime.detection import KNOWN_SOCKETS
from shimcore.systemd import kubelet
from shimcore.systemd.kubelet import IMAGE_FLAG, IMAGE_KEY, Kubelet, asked_here, same_socket
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import began_at
from shimcore.systemd.unixpeers import connected_paths

if TYPE_CHECKING:
    from shimcore.systemd.runtimes.distributions import EmbeddedKubelet

_HOSTS = ("k3s", "k3s-server", "k3s-agent", "kubelite")
"""Programs that have kubelet inside: those of k3s, and of MicroK8s."""

_Program = tuple[int, list[str]]
"""The number and the command line of one that runs."""

DEFAULT_ENDPOINT = "unix:///run/containerd/containerd.sock"
"""Where kubelet goes when nothing tells it (KubeletConfiguration, containerRuntimeEndpoint)."""


class Way(StrEnum):
    """Where kubelet's calls go."""

    WIRED = "wired"
    NOT_WIRED = "not wired"
    NO_KUBELET = "no kubelet"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KubeletWay:
    """Kubelet's endpoint for images, None where it is not known, and what it means.

    `stale`: its files have changed since the process began, which has not read them; where its
    connections can be seen, only if they do not lead to the shim. `detail` then has the command
    that has it read them, and `unit` what starts it. `images_alone`: its pods' sandboxes are asked
    for elsewhere; `sandboxes_alone`: they come to the shim, and images do not.
    """

    way: Way
    endpoint: str | None = None
    running: bool = False
    stale: bool = False
    detail: str = ""
    images_alone: bool = False
    sandboxes_alone: bool = False
    unit: str = kubelet.UNIT
    refused: bool = False
    """This user may not read what would tell it."""

    @property
    def needs_shim(self) -> bool:
        """Whether one of its endpoints is the shim's: without it no pod starts."""
        return self.way is Way.WIRED or self.sandboxes_alone


def kubelet_way(root: Root, shim_socket: str, proc: Path = Path("/proc")) -> KubeletWay:
    """Where the kubelet of `root` goes; `proc` is looked in on the machine itself alone."""
    looks = root.is_machine or proc != Path("/proc")
    process = kubelet.running_process(proc) if looks else None
    if process is None:
        host = kubelet.running_process(proc, _HOSTS) if looks else None
        inside = _embedded(root, shim_socket)
        if host is not None or inside is not None:
            return _inside(root, shim_socket, proc, host, inside)
    try:
        found = kubelet.of_process(root, process[1]) if process else kubelet.find(root)
        named = _image_endpoint(root, found) or found.endpoint
    except ShimError as error:
        running = process is not None
        files = (kubelet.KUBEADM_CONFIG, kubelet.KUBEADM_FLAGS)
        known = Way.UNKNOWN if running or any(map(root.exists, files)) else Way.NO_KUBELET
        return KubeletWay(known, running=running, detail=str(error), refused=_refused(error))
    if process is None and named is None:
        why = "kubelet is not running, and nothing tells it yet where to go"
        return KubeletWay(Way.NO_KUBELET, detail=why)
    endpoint = named or DEFAULT_ENDPOINT
    images = same_socket(root, endpoint, shim_socket)
    sandboxes = same_socket(root, found.endpoint or DEFAULT_ENDPOINT, shim_socket)
    told = _told(endpoint, (images, sandboxes), running=process is not None)
    if process is None:
        return told
    inside = None if images else _embedded(root, shim_socket)
    if inside is not None and not isinstance(inside, ShimError):
        return _unread(told, inside.unit) if inside.images else replace(told, detail=inside.advice)
    return _read(root, shim_socket, proc / str(process[0]), _files(root, found), told)


def _told(endpoint: str, asked: tuple[bool, bool], *, running: bool) -> KubeletWay:
    """That of one whose images, and whose sandboxes, are `asked` for at the shim or not."""
    images, sandboxes = asked
    return KubeletWay(
        Way.WIRED if images else Way.NOT_WIRED,
        endpoint,
        running,
        images_alone=images and not sandboxes,
        sandboxes_alone=sandboxes and not images,
    )


def _refused(error: ShimError | None) -> bool:
    return error is not None and isinstance(error.__cause__, PermissionError)


def _read(
    root: Root,
    shim_socket: str,
    process: Path,
    files: Sequence[str],
    told: KubeletWay,
    unit: str = kubelet.UNIT,
) -> KubeletWay:
    """What its files say, or if they are younger than it, where the process is connected to."""
    if not _is_stale(root, files, process):
        return told
    paths = connected_paths(process)
    if paths is None:
        return _unread(told, unit)
    if any(same_socket(root, path, shim_socket) for path in paths):
        wired = replace(told, way=Way.WIRED, endpoint=f"unix://{shim_socket}")
        return told if told.needs_shim else wired
    if not told.needs_shim:
        return told
    older = next((path for path in KNOWN_SOCKETS if path in paths), None)
    endpoint = f"unix://{older}" if older else None
    return _unread(KubeletWay(Way.NOT_WIRED, endpoint, running=True), unit)


def _unread(told: KubeletWay, unit: str) -> KubeletWay:
    """The same of one that has to be started again."""
    command = f"systemctl restart {unit.removesuffix('.service')}"
    return replace(told, stale=True, detail=command, unit=unit)


def _inside(
    root: Root,
    shim_socket: str,
    proc: Path,
    host: _Program | None,
    inside: EmbeddedKubelet | ShimError | None,
) -> KubeletWay:
    """That of a program with kubelet inside: by its own flags, or its distribution's file."""
    from shimcore.systemd.runtimes import rancher  # noqa: PLC0415 - seldom wanted

    endpoint = f"unix://{shim_socket}"
    running = host is not None
    name = "its distribution" if host is None else host[1][0].rpartition("/")[2]
    elsewhere = f"the runtime of {name}"
    asked = asked_here(root, rancher.given(" ".join(host[1])) if host else (), shim_socket)
    if any(asked):
        return _told(endpoint if asked[0] else elsewhere, asked, running=running)
    if inside is None or isinstance(inside, ShimError):
        why = inside or f"{name} has kubelet inside, and its distribution is not known"
        return KubeletWay(Way.UNKNOWN, running=running, detail=str(why), refused=_refused(inside))
    asked = (inside.images, inside.sandboxes)
    told = _told(endpoint if inside.images else elsewhere, asked, running=running)
    told = told if all(asked) else replace(told, detail=inside.advice)
    if host is None or not told.needs_shim:
        return told
    return _read(root, shim_socket, proc / str(host[0]), inside.files, told, inside.unit)


def _embedded(root: Root, shim_socket: str) -> EmbeddedKubelet | ShimError | None:
    """The kubelet of a distribution, or why its files tell nothing."""
    from shimcore.systemd.runtimes import distributions  # noqa: PLC0415 - seldom wanted

    try:
        return distributions.embedded_kubelet(root, shim_socket)
    except ShimError as error:
        return error


def _image_endpoint(root: Root, found: Kubelet) -> str | None:
    """What is told for images alone; the flag wins over the file."""
    named = found.value(IMAGE_FLAG)
    if named is not None or found.value(kubelet.RUNTIME_FLAG) is not None or found.config is None:
        return named
    return root.keys(found.config, (IMAGE_KEY,))[IMAGE_KEY]


def _is_stale(root: Root, files: Sequence[str], process: Path) -> bool:
    """Whether one of them is younger than the process."""
    try:
        began_s = began_at(process)
        changed_s = max(root.host(each).stat().st_mtime for each in files if root.exists(each))
    except (OSError, ValueError, IndexError, ShimError):
        return False
    return changed_s > began_s + 1


def _files(root: Root, found: Kubelet) -> list[str]:
    """Those that hold its endpoint."""
    if found.value(kubelet.RUNTIME_FLAG) is not None:
        return []
    return kubelet.config_files(root, found.config, found.config_dir)
