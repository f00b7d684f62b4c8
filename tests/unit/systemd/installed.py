"""Installing on an unpacked machine and taking it back, as one step each."""

from __future__ import annotations

from shimcore.systemd.install import Plan, Request, install, plan
from shimcore.systemd.root import Root
from shimcore.systemd.systemctl import ServiceControl
from shimcore.systemd.uninstall import plan_removal, uninstall
from shimcore.systemd.units import SERVICE
from tests.unit.systemd.machines import (
    CONFIG,
    FILLED,
    KUBEADM,
)

SERVICE_FILE = f"/etc/systemd/system/{SERVICE}"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
READY = {**KUBEADM, CONFIG: FILLED}


def do(
    wanted: Request, control: ServiceControl | None = None, *, now: bool = False
) -> tuple[Plan, list[str]]:
    """What was planned, and what the installation said."""
    planned = plan(wanted)
    return planned, list(install(planned, control, now=now))


def undo(
    root: Root,
    control: ServiceControl | None = None,
    *,
    purge: bool = False,
    force: bool = False,
) -> list[str]:
    """What the removal said, notes first."""
    removal = plan_removal(root, CONFIG, purge=purge, force=force)
    return [*removal.notes, *uninstall(removal, control)]


def edit(root: Root, path: str, old: str, new: str) -> None:
    """Change a file by hand."""
    place = root.host(path)
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))
