"""Finds the runtime's socket where runtimes put it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime.errors import (
    NoCriError,
    RuntimeCallError,
    SeveralRuntimesError,
    StatusCode,
)
from shimcore.unixsocket import connection_error

KNOWN_SOCKETS: tuple[str, ...] = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/var/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
)
"""Where containerd, CRI-O and cri-dockerd listen unless told otherwise, and the containerd of k3s
and RKE2, of k0s, and of MicroK8s."""

CONNECT_TIMEOUT_S = 0.5
"""A local socket accepts or refuses at once; only a full backlog makes it wait."""


VERSION_TIMEOUT_S = 2.0
"""A runtime that takes longer to say its version may still be one."""


async def detect_socket(candidates: Sequence[str] = KNOWN_SOCKETS) -> str:
    """The one runtime socket among `candidates`, which are paths; first spelling wins.

    A socket without CRI is none: containerd has its own on the usual Docker node, with its CRI
    plugin disabled. One that nobody listens on counts only if no other is listened on: it is
    what a stopped runtime leaves behind. Raises RuntimeUnavailableError when there is none, and
    its subclasses NoCriError and SeveralRuntimesError when none has CRI, or more than one.
    """
    live = live_sockets(candidates)
    if not live:
        places = ", ".join(dict.fromkeys(candidates))  # where /var/run is /run, some are the same
        raise RuntimeUnavailableError(
            f"no container runtime found: there is no socket at {places};"
            " start the runtime, or set `cri:` in the configuration to its socket"
        )
    left = await with_cri(live)
    if not left:
        raise NoCriError(tuple(live))
    if len(left) > 1:
        raise SeveralRuntimesError(tuple(left))
    return left[0]


def live_sockets(candidates: Sequence[str] = KNOWN_SOCKETS) -> list[str]:
    """Those of `candidates` that are sockets and listened on, each once; unless none is, all."""
    present = _distinct([path for path in candidates if _is_socket(path)])
    return [path for path in present if _listened_on(path)] or present


async def with_cri(paths: Sequence[str]) -> list[str]:
    """Those of `paths` whose program has not answered that it knows no CRI."""
    denials = await asyncio.gather(*(has_no_cri(path) for path in paths))
    return [path for path, denied in zip(paths, denials, strict=True) if not denied]


async def has_no_cri(path: str) -> bool:
    """True when the program at a socket has answered that it knows no CRI, in any version."""
    from shimcore.runtime.client import RuntimeClient  # noqa: PLC0415 - loads grpc

    try:
        async with RuntimeClient(path) as client:
            await client.version(VERSION_TIMEOUT_S)
    except RuntimeCallError as error:
        return error.code == StatusCode.UNIMPLEMENTED
    except RuntimeUnavailableError:
        return False
    return False


async def socket_doubt(path: str | None) -> str:
    """Why no runtime answers at `path`, or is found where it is None; "" when one may."""
    if path is None:
        try:
            await detect_socket()
        except RuntimeUnavailableError as error:
            return str(error)
        return ""
    return _doubt(path)


def _doubt(path: str) -> str:
    if not os.path.exists(path):
        return f"there is no such socket: {path}"
    if not _is_socket(path):
        return f"{path} is no socket"
    return "" if _listened_on(path) else f"nobody listens at {path}: is the runtime running?"


def _distinct(paths: Sequence[str]) -> list[str]:
    """`paths` without those that lead to one already listed (/var/run is a link to /run)."""
    by_real_path: dict[str, str] = {}
    for path in paths:
        by_real_path.setdefault(os.path.realpath(path), path)
    return list(by_real_path.values())


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _listened_on(path: str) -> bool:
    """False only when the kernel says that nobody listens there."""
    error = connection_error(path, CONNECT_TIMEOUT_S)
    return not isinstance(error, ConnectionRefusedError | FileNotFoundError)
