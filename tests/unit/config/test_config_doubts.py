"""What cannot work on this machine is warned of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cli.exits import status_of
from shimcore.cluster import checking
from shimcore.config import parse_config
from shimcore.config.doubts import doubts
from shimcore.reference.patterns import pattern_doubt
from shimcore.runtime.detection import socket_doubt


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("http://quay.io/*", "has no scheme"),
        ("^quay.io/.*$", "not regular expressions"),
        ("quay.io/(a|b)", "not regular expressions"),
        ("quay.io/", "try quay.io/*"),
        ("/quay.io/*", "try quay.io/*"),
        ("quay.io", ""),
        ("[a-c]*.example:5000/x?:v[!1]", ""),
        ("nginx@sha256:*", ""),
    ],
)
def test_patterns_that_no_image_matches(pattern: str, why: str) -> None:
    """A pattern of another language, or of no name, is said to be one."""
    found = pattern_doubt(pattern)
    assert why in found
    assert bool(found) == bool(why)


def test_sockets_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way, a folder that is none; a folder that is missing is made."""
    file = tmp_path / "file"
    file.touch()
    config = f"address: h.example\nadmin: {tmp_path}/new/a.sock\nshim: "
    [doubt] = doubts(parse_config(f"{config}{file}", "x.yaml"))
    assert doubt == f"shim: {file} is there and is no socket"
    [doubt] = doubts(parse_config(f"{config}{file}/below/s.sock", "x.yaml"))
    assert doubt.endswith(f"{file} is no directory")
    assert doubts(parse_config(f"{config}{tmp_path}/s.sock", "x.yaml")) == ()


async def test_runtime_sockets_without_a_runtime(tmp_path: Path) -> None:
    """No socket, no socket but a file, and one that was left behind."""
    path = str(tmp_path / "r.sock")
    assert await socket_doubt(path) == f"there is no such socket: {path}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert "nobody listens" in await socket_doubt(path)
        server.listen()
        assert await socket_doubt(path) == ""
    os.unlink(path)
    Path(path).touch()
    assert await socket_doubt(path) == f"{path} is no socket"


def test_the_cluster_part_needs_a_kubeconfig(tmp_path: Path) -> None:
    """One that is none is named."""
    path = tmp_path / "shim.yaml"
    kubeconfig = tmp_path / "kubeconfig"
    path.touch(0o600)
    path.write_text(
        f"address: h.example\nkubernetes: {{enabled: true, kubeconfig: {kubeconfig}}}\n"
    )
    config = parse_config(path.read_text(), str(path))
    assert checking.checked(str(path)) == ()
    [doubt] = checking.cluster_doubts(config)
    assert str(kubeconfig) in doubt
    assert "no such file" in doubt


def test_a_dry_run_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a line, and the configuration is printed all the same: status 0."""
    from cli.app import app  # noqa: PLC0415 - as the command line does

    path = tmp_path / "shim.yaml"
    path.write_text(
        f"address: h.example\ncri: {tmp_path}/none.sock\nshim: {tmp_path}/s.sock\n"
        "exclude: ['^quay']\n"
    )
    arguments = ["serve", "--dry-run", "-f", str(path)]
    assert status_of(lambda: app(args=arguments, standalone_mode=False)) == 0
    out, err = capsys.readouterr()
    assert "address: https://h.example" in out
    assert [line.split(": ")[2:4] for line in err.splitlines()] == [
        ["warning", "exclude[0]"],
        ["warning", "cri"],
    ]
