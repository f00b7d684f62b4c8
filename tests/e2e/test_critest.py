"""CRI's conformance suite: what passes on containerd by itself passes through the shim."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import HUB_LOGIN, PAUSE, clear_node, refuse
from tests.e2e.support import critest_images, images
from tests.e2e.support.bridge import Bridge
from tests.e2e.support.containerd import BETWEEN, Containerd, Release
from tests.e2e.support.critest import CRITEST, Report, run_critest
from tests.e2e.support.process import free_port
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.releases

IMAGE_SPECS = r"\[k8s\.io\] Image"
# It pulls one digest of the real image, which no image of ours has.
FIXED_DIGEST = "public image with digest should be pulled and removed"
# `make e2e-critest` sets both: how many runs through the shim, and which specs.
RUNS = int(os.environ.get("E2E_CRITEST_RUNS", "1"))
FOCUS = os.environ.get("E2E_CRITEST_FOCUS", ".")
SEED = int(os.environ.get("E2E_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
LOGS = Path(".cache/critest").absolute()
# What the support class sets for its tests' sake is here as it is by default.
DEFAULTS = {"timeout": "15m", "reloadInterval": "15s"}


@dataclass
class Bed:
    """One containerd with a network for pods, the hub, and an open copy of the hub."""

    node: Containerd
    hub: Registry
    copy: Registry
    shim: Shim

    def directly(self, focus: str, timeout_s: float) -> Report:
        """critest on containerd, whose own mirrors (hosts.toml) are the copy of the hub."""
        self._point_at(self.copy.address)
        return self._run(self.node.socket, 0, focus, timeout_s)

    def through(self, number: int, focus: str, timeout_s: float) -> Report:
        """critest on the shim; the runtime reaches no registry but the hub."""
        self._point_at(f"http://127.0.0.1:{free_port()}")
        if not self.shim.running:
            self.shim.serve()
        return self._run(self.shim.socket, number, focus, timeout_s)

    def _point_at(self, server: str) -> None:
        for host in critest_images.HOSTS:
            self.node.route(host, server)

    def _run(self, socket: Path, number: int, focus: str, timeout_s: float) -> Report:
        clear_node(self.node)
        folder = LOGS / self.node.release.name / (f"shim-{number}" if number else "directly")
        seed = SEED + number
        report = run_critest(socket, folder, focus=focus, seed=seed, timeout_s=timeout_s)
        (folder / "shim.log").write_text(self.shim.text())
        return report


@pytest.fixture(scope="module")
def hubs(room: Path) -> Iterator[tuple[Registry, Registry]]:
    """The hub, with its login, and a copy that everybody may read."""
    needed = [CRITEST, critest_images.NO_NEW_PRIVILEGES]
    missing = [str(path) for path in needed if not path.exists()]
    missing += [name for name in ("ip", "iptables", "ipcmk") if shutil.which(name) is None]
    if missing:
        refuse("needs " + ", ".join(missing))
    hub, copy = Registry(room / "critest-hub", login=HUB_LOGIN), Registry(room / "critest-copy")
    for registry in (hub, copy):
        registry.serve()
        with registry.pusher() as pusher:
            critest_images.push_all(pusher)
    yield hub, copy
    hub.stop()
    copy.stop()


@pytest.fixture(scope="module")
def bed(room: Path, release: Release, hubs: tuple[Registry, Registry]) -> Iterator[Bed]:
    """Started; pods' pause image is there already."""
    hub, copy = hubs
    bridge = Bridge(room / f"bridge-{release.name}")
    node = Containerd(
        room / f"critest-{release.name}",
        sandbox_image=PAUSE,
        release=release,
        network=bridge.config,
    )
    config = {"address": hub.address, "auth": HUB_LOGIN, **DEFAULTS}
    shim = Shim(room / f"critest-shim-{release.name}", node.socket, config)
    try:
        node.serve()
        archive = room / f"critest-{release.name}.tar"
        node.load(images.docker_archive(critest_images.sandbox(), PAUSE, archive))
        yield Bed(node, hub, copy, shim)
        clear_node(node)
    finally:
        shim.stop()
        node.close()
        bridge.close()


def check_parity(bed: Bed, focus: str, runs: int, timeout_s: float) -> Report:
    """No spec that passes directly fails through the shim, and as many run, in each run.

    What came of the specs directly.
    """
    direct = bed.directly(focus, timeout_s)
    note(bed, "directly", direct)
    NOTES.extend(f"  fails directly: {name}" for name in failures(direct))
    assert any(spec.passed for spec in direct.values()), f"nothing passed, logs in {LOGS}"
    faults = []
    for number in range(1, runs + 1):
        through = bed.through(number, focus, timeout_s)
        note(bed, f"through the shim ({number} of {runs})", through)
        faults += [f"run {number}: {fault}" for fault in differences(direct, through)]
    assert not faults, "\n".join([f"seed {SEED}, logs in {LOGS}", *faults])
    return direct


def note(bed: Bed, how: str, report: Report) -> None:
    """One line for the summary of the run."""
    passed = sum(spec.passed for spec in report.values())
    ran = sum(spec.ran for spec in report.values())
    seconds = sum(spec.seconds for spec in report.values())
    line = f"{passed} of {ran} specs passed, {len(report) - ran} skip themselves, {seconds:.0f} s"
    NOTES.append(f"critest on containerd ({bed.node.release.name}) {how}: {line}")


def failures(report: Report) -> list[str]:
    return sorted(name for name, spec in report.items() if spec.ran and not spec.passed)


def differences(direct: Report, through: Report) -> list[str]:
    """What is worse through the shim, a line each."""
    faults = [
        f"{name}: {through[name].state}: {' '.join(through[name].message.split())[:300]}"
        for name, spec in sorted(direct.items())
        if spec.passed and name in through and not through[name].passed
    ]
    ran = {name for name, spec in direct.items() if spec.ran}
    also_ran = {name for name, spec in through.items() if spec.ran}
    faults += [f"{name}: run on one side only" for name in sorted(ran ^ also_ran)]
    return faults


@pytest.mark.e2e
def test_image_specs(bed: Bed) -> None:
    """What CRI says of images holds through the shim as far as it holds without."""
    direct = check_parity(bed, IMAGE_SPECS, 1, 300)
    # The suite is younger than the containerds between, which have faults of their own.
    if bed.node.release not in BETWEEN:
        assert [name for name in failures(direct) if FIXED_DIGEST not in name] == []


@pytest.mark.critest
def test_all_specs(bed: Bed) -> None:
    """Everything that CRI says holds through the shim as far as it holds without."""
    check_parity(bed, FOCUS, RUNS, 1800)
