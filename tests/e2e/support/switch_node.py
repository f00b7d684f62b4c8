"""A booted tree with versions of the shim in /opt, a request for its switch, and a kubelet."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shimcore.switch.undo import starting

from .containerd import DEBIAN
from .kubeadm_layout import FILES
from .network import Link
from .process import wait_for
from .stock_node import StockNode
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
# Serves, and refuses what kubelet needs.
ANSWERS_WRONGLY = """\
#!{prefix}/bin/python3
import sys
import shimcore
shimcore.__version__ = "{version}"
if "serve" in sys.argv:
    from shimcore.daemon.generation import Generations
    from shimcore.relay.route import Route
    right = Generations.route
    Generations.route = lambda self, path: (
        Route.STRICT if path.endswith(b"/ListContainers") else right(self, path)
    )
from cli.main import run
run()
"""
# Killed when the undo's script is written and nothing is there yet that would start it.
IS_KILLED = """\
#!{prefix}/bin/python3
import os
import signal
import shimcore
shimcore.__version__ = "{version}"
from shimcore.switch import handle
write = handle.write
def killed(root, path, what):
    write(root, path, what)
    if path == handle.UNDO:
        open("/opt/killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
handle.write = killed
from cli.main import run
run()
"""

# Goes no further than the step that the node names, so that what is done to it there is in time.
IS_HELD = """\
#!{prefix}/bin/python3
import time
import shimcore
shimcore.__version__ = "{version}"
from pathlib import Path
from shimcore.switch.work import Switch
step = Switch.step
def held(work, name):
    step(work, name)
    while name == Path("{at}").read_text():
        time.sleep(0.1)
Switch.step = held
from cli.main import run
run()
"""
HELD_AT = "/opt/held-at"


class SwitchNode(StockNode):
    """A stock containerd, a kubelet that asks all the time, and Python for the versions."""

    def __init__(self, link: Link, empty: Path) -> None:
        super().__init__(DEBIAN, link, empty)

    def _packages(self) -> str:
        return Machine._packages(self)

    def _install(self) -> None:
        super()._install()
        Machine._install(self)
        (self.unpacked / "usr/local/bin/image-cri-shim").unlink()
        prepare(self)
        for unit in ("containerd", "kubelet"):
            wants = self.unpacked / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True, exist_ok=True)
            (wants / f"{unit}.service").symlink_to(f"/usr/lib/systemd/system/{unit}.service")


@contextlib.contextmanager
def switch_node(
    empty: Path, before: Callable[[SwitchNode], None] = lambda _: None
) -> Iterator[SwitchNode]:
    """A booted one, whose hub has an address at which nobody answers; `before` may add files."""
    link = Link()
    machine = SwitchNode(link, empty)
    try:
        before(machine)
        machine.boot()
        machine.plug()
        machine.wait_for_runtime()
        yield machine
    finally:
        machine.close()
        link.close()


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
    script = text.format(prefix=PREFIX, version=version, at=HELD_AT)
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
    done = machine.run(*starting(f"{VERSIONS}/{version}/image-cri-shim"))
    assert done.returncode == 0, done.stderr


def end_switch(machine: Machine, signal: str = "KILL") -> None:
    """The whole unit at once, which is told nothing; STOP: it hangs, and systemd sees no end."""
    machine.run("systemctl", "kill", f"--signal={signal}", "image-cri-shim-switch")


def hold(machine: Machine, step: str) -> None:
    """Where a version that is held goes no further; "" is nowhere."""
    machine.add(HELD_AT, step)


def reaches(machine: Machine, step: str, timeout_s: float = 40) -> None:
    """Until the switch is at a step, or past all."""

    def there() -> bool:
        now = state(machine)
        return now.get("step") == step or now.get("phase", "running") != "running"

    wait_for(f"step {step}", there, timeout_s)


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
    hold(machine, "")
    ask(machine, version, **values)
    machine.place(f"{ROOM}/state.json").unlink(missing_ok=True)
    began = time.monotonic()
    start(machine, version)
    return ended(machine), time.monotonic() - began


def said(machine: Machine) -> Done:
    """What the switch and the undo have said."""
    return machine.run("journalctl", "--no-pager", "-u", "image-cri-shim-*", "-u", "image-cri-shim")
