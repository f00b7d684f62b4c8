"""The node that doctor looks at, as far as a file that cannot be used tells of it."""

from __future__ import annotations

from pathlib import Path

from shimcore.client.admin import endpoint_of
from shimcore.doctor import Node


def test_a_typo_elsewhere_does_not_hide_the_runtime(tmp_path: Path) -> None:
    """`cri` counts, as `shim` and `admin` do."""
    file = tmp_path / "shim.yaml"
    file.write_text("adress: http://hub:5000\ncri: unix:///run/mine.sock\n")
    endpoint = endpoint_of(str(file))
    assert endpoint.fault
    assert Node(endpoint).runtime_socket == "/run/mine.sock"
