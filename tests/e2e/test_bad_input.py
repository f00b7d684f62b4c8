"""What cannot work ends in one clear line and the documented exit status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import HUB_LOGIN, Shims
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.shim import Shim, run_shim

pytestmark = pytest.mark.e2e

BAD_CONFIG = 78
BAD_FILES = {
    "bad YAML": ("address: [http://hub", ""),
    "not a mapping": ("- address", ""),
    "unknown key": ("address: http://hub:5000\nadress: x\n", "adress"),
    "unknown key below": (
        "address: http://hub:5000\nregistries:\n- address: http://b\n  prio: 1\n",
        "registries[0].prio",
    ),
    "empty address": ('address: ""\n', "address"),
    "no address": ("debug: true\n", "address"),
    "wrong type": ("address: http://hub:5000\nforce: perhaps\n", "force"),
}
# A config as sealos writes it, with keys that only older versions of the Go shim used.
GO_CONFIG = """\
shim: {shim}
cri: {cri}
address: {address}
force: true
debug: false
image: /var/lib/image-cri-shim
version: v1
timeout: 15m
auth: {auth}
"""


def one_line(text: str) -> str:
    """The only line of an error message."""
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_config(case: str, shims: Shims) -> None:
    """Status 78, and the line names the file and the key."""
    text, key = BAD_FILES[case]
    file = shims.directory / "bad.yaml"
    file.write_text(text)
    file.chmod(0o600)
    ran = run_shim("-f", file, "serve")
    line = one_line(ran.stderr)
    assert ran.returncode == BAD_CONFIG
    assert str(file) in line
    assert key in line


def test_a_missing_config(shims: Shims) -> None:
    """Status 78, and the line names the file."""
    file = shims.directory / "none.yaml"
    ran = run_shim("-f", file, "serve")
    assert ran.returncode == BAD_CONFIG
    assert str(file) in one_line(ran.stderr)


def test_no_runtime(shims: Shims, hub_config: dict[str, Any]) -> None:
    """force: false waits for the socket, says so, and gives up after `timeout` with 1."""
    absent = shims.directory / "absent.sock"
    shim = shims.make({**hub_config, "timeout": "2s"}, absent)
    started = time.monotonic()
    ran = run_shim("-f", shim.config, "serve")
    took_s = time.monotonic() - started
    assert ran.returncode == 1
    assert 1.5 < took_s < 25
    assert "Traceback" not in ran.stderr
    lines = ran.stderr.strip().splitlines()
    assert len(lines) >= 2, "says that it waits, then that it gives up"
    assert str(absent) in lines[0]
    assert str(absent) in lines[-1]


def test_a_second_shim(shim: Shim, shims: Shims) -> None:
    """The socket of a living shim is not taken: status 1; the first goes on serving."""
    ran = run_shim("-f", shim.config, "serve")
    assert ran.returncode == 1
    assert str(shim.socket) in one_line(ran.stderr)
    with CriClient(shim.socket) as client:
        assert client.version()[0] == "containerd"


def test_a_config_of_the_go_shim(shims: Shims, hub_config: dict[str, Any]) -> None:
    """It serves unchanged, and with no command at all, as the old units start it."""
    shim = shims.make(hub_config)
    values = {"shim": shim.socket, "cri": f"unix://{shims.runtime.socket}", **hub_config}
    shim.config.write_text(GO_CONFIG.format(**values))
    shim.command.remove("serve")
    shim.serve()
    with CriClient(shim.socket) as client:
        client.pull("nginx:latest")


def test_dry_run(shims: Shims, hub_config: dict[str, Any]) -> None:
    """Prints the effective config without its secrets and starts nothing."""
    shim = shims.make(hub_config)
    ran = run_shim("-f", shim.config, "serve", "--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert hub_config["address"] in ran.stdout
    assert HUB_LOGIN.partition(":")[2] not in ran.stdout + ran.stderr
    assert not Path(shim.socket).exists()
