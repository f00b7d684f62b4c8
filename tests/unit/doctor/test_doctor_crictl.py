"""crictl's configuration, where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.client.admin import Endpoint
from shimcore.doctor import Node, Result, kubelet
from shimcore.systemd.root import Root


@pytest.mark.parametrize("content", [b"a: [\n", b"\xff\n"], ids=["not YAML", "not UTF-8"])
async def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/crictl.yaml").write_bytes(content)
    endpoint = Endpoint("/x.yaml", "/run/shim.sock", "/run/shim.sock.admin")
    node = Node("/x.yaml", endpoint, Root(root), proc=tmp_path / "none")
    _, crictl = await kubelet.look(node)
    assert crictl.result is Result.WARN
    assert crictl.detail.startswith("/etc/crictl.yaml: ")
    assert crictl.detail.count("/etc/crictl.yaml") == 1
