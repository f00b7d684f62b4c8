"""Machines whose runtime is told of the registries."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from shimcore.systemd.install import install, plan
from shimcore.systemd.root import Root
from shimcore.systemd.uninstall import plan_removal, uninstall
from tests.unit.systemd.machines import CONFIG, NotedSystemd, request, unpacked

HUB = "sealos.hub:5000"
PLAIN = f"address: http://{HUB}\n"
HOSTS = f"/etc/containerd/certs.d/{HUB}/hosts.toml"


def do(root: Root, control: NotedSystemd | None = None, *, answers: bool = True) -> list[str]:
    """The runtime is wired, and answers or does not."""
    planned = plan(request(root, wire=False, runtime=True))
    planned.runtime = planned.runtime or "/run/containerd/containerd.sock"
    return list(install(planned, control, now=True, answers=lambda _: answers))


def undo(
    root: Root, control: NotedSystemd | None = None, answers: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """All of it is taken back."""
    return list(uninstall(plan_removal(root, CONFIG), control, answers=answers))


def mount_read_only(patch: pytest.MonkeyPatch, root: Root, path: str) -> None:
    """What is below the path takes no writes, by what is said of its file system."""
    usual = os.statvfs

    def statvfs(place: Path) -> object:
        below = place.is_relative_to(root.host(path))
        return SimpleNamespace(f_flag=os.ST_RDONLY) if below else usual(place)

    patch.setattr(os, "statvfs", statvfs)


def node(directory: Path, files: dict[str, str], config: str = PLAIN) -> Root:
    """A machine with these files and a configuration."""
    return unpacked(directory, {CONFIG: config, **files})
