"""Files of crictl and of kubelet that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.client.admin import Endpoint
from shimcore.doctor import Node, Result, kubelet, node_of, service
from shimcore.systemd.root import Root


@pytest.mark.parametrize("content", [b"a: [\n", b"\xff\n"], ids=["not YAML", "not UTF-8"])
async def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/crictl.yaml").write_bytes(content)
    endpoint = Endpoint("/x.yaml", "/run/shim.sock", "/run/shim.sock.admin")
    node = Node(endpoint, Root(root), proc=tmp_path / "none")
    _, crictl = await kubelet.look(node)
    assert crictl.result is Result.WARN
    assert crictl.detail.startswith("/etc/crictl.yaml: ")
    assert crictl.detail.count("/etc/crictl.yaml") == 1


async def test_root_is_not_told_to_be_root(tmp_path: Path) -> None:
    """A file of kubelet's that is not YAML is mended by whoever looks."""
    file = tmp_path / "root/var/lib/kubelet/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("a: [\n")
    endpoint = Endpoint("/x.yaml", "/run/shim.sock", "/run/shim.sock.admin")
    node = Node(endpoint, Root(tmp_path / "root"), proc=tmp_path / "none")
    found, _ = await kubelet.look(node)
    assert found.result is Result.WARN
    assert found.mend == "mend that file, or see that kubelet uses unix:///run/shim.sock"


async def test_an_admin_socket_that_cannot_be(tmp_path: Path) -> None:
    """Nor where its path is one that no socket can have."""
    file = tmp_path / "shim.yaml"
    file.touch(0o600)
    (tmp_path / "a").touch()
    file.write_text(f"address: http://hub:5000\nadmin: {tmp_path}/a/admin.sock\n")
    (_, socket) = await service.look(replace(await node_of(str(file)), root=Root(tmp_path)))
    assert socket.mend == f"see that admin in {file} is a path where a socket can be"
