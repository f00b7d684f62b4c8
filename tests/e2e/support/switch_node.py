"""A booted tree with versions of the shim in /opt, a request for its switch, and a kubelet."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .kubeadm_layout import FILES
from .process import wait_for
from .systemd_tree import PREFIX, Done, Machine

VERSIONS = "/opt/image-cri-shim"
ROOM = "/var/lib/image-cri-shim/switch"
CONFIG_TEXT = "address: http://sealos.hub:5000\nauth: admin:pass:word\n"
KUBELET = f'#!/bin/sh\nexec {PREFIX}/bin/python3 /opt/kubelet.py "$@"\n'
# The installed command, as another version of itself.
GOOD = """\
#!{prefix}/bin/python3
import shimcore
shimcore.__version__ = "{version}"
from cli.main import run
run()
"""
# Switches as a good one, and serves nothing.
DOES_NOT_START = """\
#!{prefix}/bin/python3
import sys
import shimcore
shimcore.__version__ = "{version}"
if "serve" in sys.argv:
    sys.exit("poisoned")
from cli.main import run
run()
"""
# Serves, and what comes of a list of containers is something else.
ANSWERS_WRONGLY = """\
#!{prefix}/bin/python3
import shimcore
shimcore.__version__ = "{version}"
from shimcore.relay import upstream_to_client
from cli.main import run
run()
"""


def prepare(machine: Machine) -> None:
    """What is on the node before the first switch."""
    machine.add("/usr/local/bin/kubelet", KUBELET, 0o755)
    machine.add("/opt/kubelet.py", Path(__file__).with_name("switch_kubelet.py").read_text())
    for path, text in FILES.items():
        machine.add(path, text)
    machine.add(
        "/usr/lib/systemd/system/kubelet.service.d/05-restart.conf",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1\n",
    )


def unpack(machine: Machine, version: str, text: str = GOOD) -> None:
    """A version, as the fleet's pod lays it down."""
    script = text.format(prefix=PREFIX, version=version)
    machine.add(f"{VERSIONS}/{version}/image-cri-shim", script, 0o755)


def ask(machine: Machine, version: str, **values: Any) -> None:
    """The pod's request."""
    request = {
        "revision": f"revision-of-{version}",
        "version": version,
        "mode": "install",
        "config": CONFIG_TEXT,
        "wire_runtime": True,
        "wire_kubelet": True,
        "health_s": 20,
        "at": "2026-01-01T00:00:00Z",
    }
    machine.add(f"{ROOM}/request.json", json.dumps(request | values), 0o600)


def start(machine: Machine, version: str) -> None:
    """The pod's command."""
    command = f"{VERSIONS}/{version}/image-cri-shim"
    done = machine.run(
        *("systemd-run", "--unit=image-cri-shim-switch", "--collect", "--no-block"),
        *(command, "switch", "run"),
    )
    assert done.returncode == 0, done.stderr


def state(machine: Machine) -> dict[str, Any]:
    """What `state.json` says; {} while there is none."""
    place = machine.place(f"{ROOM}/state.json")
    found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    return found


def ended(machine: Machine, timeout_s: float = 60) -> dict[str, Any]:
    """How the switch ended, when nothing of it is left."""

    def over() -> bool:
        idle = machine.run("systemctl", "is-active", "image-cri-shim-switch").returncode != 0
        phase = state(machine).get("phase", "running")
        return idle and phase != "running" and not machine.place(f"{ROOM}/undo").exists()

    wait_for("the end of the switch", over, timeout_s)
    return state(machine)


def switched(machine: Machine, version: str, **values: Any) -> tuple[dict[str, Any], float]:
    """How a whole switch ended, and the seconds that it took."""
    ask(machine, version, **values)
    machine.place(f"{ROOM}/state.json").unlink(missing_ok=True)
    began = time.monotonic()
    start(machine, version)
    return ended(machine), time.monotonic() - began


def said(machine: Machine) -> Done:
    """What the switch and the undo have said."""
    return machine.run("journalctl", "--no-pager", "-u", "image-cri-shim-*", "-u", "image-cri-shim")
