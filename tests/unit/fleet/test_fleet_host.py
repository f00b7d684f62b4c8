"""The node as its pod sees it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimcore.fleet.host import Done, Health, Host, chrooted
from shimcore.fleet.values import FleetError

SHIM = "unix:///var/run/image-cri-shim.sock"
RUNTIME = "unix:///run/containerd/containerd.sock"


class Answers:
    """Answers in their order, and what was asked."""

    def __init__(self, *answers: Done) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, ...]] = []

    async def run(self, *words: str) -> Done:
        self.asked.append(words)
        return self.answers.pop(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in ("etc", "run/systemd/system", "var/lib/kubelet"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=debian\n")
    return tmp_path


@pytest.mark.parametrize(
    ("release", "booted", "why"),
    [
        ("ID=debian", True, ""),
        ("ID=flatcar", True, ""),
        ('ID="talos"', True, "Talos"),
        ("NAME=x\nID='bottlerocket'", True, "Bottlerocket"),
        ("ID=alpine", False, "systemd"),
        ("", True, ""),
    ],
)
def test_where_the_shim_does_not_belong(root: Path, release: str, booted: bool, why: str) -> None:
    """By os-release, and by what runs the machine."""
    (root / "etc/os-release").write_text(release + "\n")
    if not booted:
        (root / "run/systemd/system").rmdir()
    found = Host(root, Answers().run).unsupported()
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("active", "endpoint", "health"),
    [
        ("inactive\nactive\n", SHIM, Health.HEALTHY),
        ("inactive\nactive\n", "unix:///run/image-cri-shim.sock", Health.HEALTHY),
        ("inactive\nreloading\n", SHIM, Health.HEALTHY),
        ("inactive\nactive\n", RUNTIME, Health.UNWIRED),
        ("active\ninactive\n", SHIM, Health.BYPASSED),
        ("inactive\nfailed\n", SHIM, Health.FAILING),
        ("inactive\nactivating\n", SHIM, Health.FAILING),
        ("", SHIM, Health.FAILING),
    ],
)
async def test_health(root: Path, active: str, endpoint: str, health: Health) -> None:
    """Of units and kubelet's files."""
    (root / "run/image-cri-shim.sock").touch()
    (root / "var/run").symlink_to("/run")
    config = root / "var/lib/kubelet/config.yaml"
    config.write_text(f"containerRuntimeEndpoint: {endpoint}\n")
    host = Host(root, Answers(Done(3, active)).run)
    assert await host.health(wire_kubelet=True) is health


async def test_a_kubelet_that_was_not_to_be_wired(root: Path) -> None:
    """Is not missed."""
    config = root / "var/lib/kubelet/config.yaml"
    config.write_text(f"containerRuntimeEndpoint: {RUNTIME}\n")
    host = Host(root, Answers(Done(0, "inactive\nactive\n")).run)
    assert await host.health(wire_kubelet=False) is Health.HEALTHY


def test_the_socket_of_the_nodes_file_counts(root: Path) -> None:
    """And a file that cannot be read is no proof of anything."""
    config = root / "var/lib/kubelet/config.yaml"
    config.write_text("containerRuntimeEndpoint: unix:///run/other.sock\n")
    host = Host(root, Answers().run)
    assert host.is_unwired()
    (root / "etc/image-cri-shim.yaml").write_text("shim: unix:///run/other.sock\n")
    assert not host.is_unwired()
    (root / "etc/image-cri-shim.yaml").write_text("shim: [")
    assert not host.is_unwired()


async def test_the_switch_is_started_outside_of_the_pod(root: Path) -> None:
    """By the node's systemd, without waiting, from the bundle's own command; undone if it dies."""
    answers = Answers(Done(0, ""))
    await Host(root, answers.run).begin("1.2.3")
    (words,) = answers.asked
    assert words[:4] == ("systemd-run", "--unit=image-cri-shim-switch", "--collect", "--no-block")
    assert words[4].startswith("--property=ExecStopPost=-/bin/sh -c ")
    assert words[5:] == ("/opt/image-cri-shim/1.2.3/image-cri-shim", "switch", "run")


async def test_a_switch_that_cannot_be_started(root: Path) -> None:
    """What systemd says is in the error; one that is under way already is none."""
    refusal = Done(1, "Failed to connect to bus:\nno medium")
    with pytest.raises(FleetError, match="Failed to connect to bus: no medium"):
        await Host(root, Answers(refusal, Done(3, "inactive\n")).run).begin("1")
    await Host(root, Answers(refusal, Done(0, "active\n")).run).begin("1")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_commands_run_in_the_nodes_root(tmp_path: Path) -> None:
    """Output and status are theirs; what is not there has a status, too."""
    done = await chrooted(Path("/"), "sh", "-c", "echo out; echo err >&2; exit 3")
    assert done.status == 3
    assert set(done.output.split()) == {"out", "err"}
    nothing = await chrooted(tmp_path, "systemctl", "is-active", "x")
    assert nothing.status != 0
