"""What a node has to be before anything is touched on it."""

from __future__ import annotations

import os

from shimcore.cluster.checking import files_of
from shimcore.config import parse_config
from shimcore.errors import ConfigError, ShimError
from shimcore.switch.exchange import COMMAND, CONFIG, Mode, Phase, SwitchRequest, version_directory
from shimcore.systemd import envfile
from shimcore.systemd.packaged import unit_path
from shimcore.systemd.places import check_files
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.distributions import embedded_kubelet
from shimcore.systemd.uninstall import plan_removal
from shimcore.systemd.units import SERVICE, UNITS

# os-release(5): systems that are whole images, and are set up by their makers' own means.
_CLOSED = {"talos": "Talos", "bottlerocket": "Bottlerocket"}
_RELEASES = ("/etc/os-release", "/usr/lib/os-release")


class NotSwitchedError(ShimError):
    """A node that is not switched, nothing of which was touched; `phase` is how that ends.

    REFUSED: something has to be mended first. UNSUPPORTED: the shim has no place there.
    """

    def __init__(self, reason: str, phase: Phase = Phase.REFUSED) -> None:
        super().__init__(reason)
        self.phase = phase


def why_unsupported(root: Root) -> str:
    """Why the shim has no place on the machine of `root`; "" where it has."""
    if system := closed_system(root):
        return f"{system} has no place for a service of ours: leave it out by nodeSelector"
    # sd_booted(3)
    if not root.exists("/run/systemd/system"):
        return "systemd does not run this node; start `image-cri-shim serve` by what does"
    return ""


def closed_system(root: Root) -> str:
    """The name of the system that runs the machine of `root`, if it is closed. Raises ShimError."""
    named = next((text for path in _RELEASES if (text := root.text(path)) is not None), "")
    return _CLOSED.get(envfile.variables(named).get("ID", "").lower(), "")


def check(root: Root, request: SwitchRequest) -> None:
    """Raises NotSwitchedError; a configuration's faults are in the text."""
    if why := why_unsupported(root):
        raise NotSwitchedError(why, Phase.UNSUPPORTED)
    try:
        _check_units(root)
        if request.mode is Mode.INSTALL:
            _check_install(root, request)
        else:
            plan_removal(root, CONFIG, purge=True)
    except ConfigError as error:
        raise NotSwitchedError(f"{CONFIG}: {error.reason}") from error
    except ShimError as error:
        raise NotSwitchedError(str(error)) from error


def _check_units(root: Root) -> None:
    if not os.access(root.host(UNITS), os.W_OK):
        raise ShimError(f"{UNITS} cannot be written: this node's image has to bring the units")


def _check_install(root: Root, request: SwitchRequest) -> None:
    command = f"{version_directory(request.version)}/{COMMAND.rpartition('/')[2]}"
    if not os.access(root.host(command), os.X_OK):
        raise ShimError(f"{command} is not there: unpack version {request.version} first")
    unit = unit_path(root, SERVICE)
    if unit is not None and not unit.startswith(f"{UNITS}/"):
        raise ShimError(
            f"{unit} is a package's: upgrade that, or remove the package image-cri-shim first"
        )
    text = request.config if request.config is not None else root.text(CONFIG)
    if text is None:
        raise ShimError(f"{CONFIG} is not there, and none was given: set `config`")
    config = parse_config(text, str(root.host(CONFIG)))
    check_files([path for path in files_of(config) if path != str(root.host(CONFIG))], root)
    inside = embedded_kubelet(root, config.shim_socket) if request.wire_kubelet else None
    if inside is not None and not inside.wired and not inside.changes:
        raise ShimError(
            "kubelet is wired by hand here: leave that out (wireKubelet: false), then "
            f"{inside.advice}"
        )
