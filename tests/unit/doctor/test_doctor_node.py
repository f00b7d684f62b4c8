"""The node that doctor looks at, as far as a file that cannot be used tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.client.admin import endpoint_of
from shimcore.doctor import Node
from shimcore.doctor.finding import Finding, failed
from shimcore.doctor.run import Check, examine
from shimcore.errors import ShimError
from shimcore.systemd.root import Root


def test_a_typo_elsewhere_does_not_hide_the_runtime(tmp_path: Path) -> None:
    """`cri` counts, as `shim` and `admin` do."""
    file = tmp_path / "shim.yaml"
    file.write_text("adress: http://hub:5000\ncri: unix:///run/mine.sock\n")
    assert Node(endpoint_of(str(file))).runtime_socket == "/run/mine.sock"


async def test_what_only_root_may_see(tmp_path: Path) -> None:
    """No check that broke: it is run as root."""

    async def look(node: Node) -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/var/lib/x")

    node = Node(endpoint_of(str(tmp_path)))
    found = await examine(node, checks=[Check("kubelet", look)])
    assert found == [failed("kubelet", "/var/lib/x: permission denied", "run it as root")]


def test_a_folder_that_only_root_may_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, with what to do."""

    def is_symlink(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_symlink", is_symlink)
    with pytest.raises(ShimError, match=r"^/var: permission denied; run this as root$"):
        Root().real("/var/lib/x")
