"""What the documents tell of metrics and of `status`."""

from __future__ import annotations

import re
from pathlib import Path

from shimcore.client.facts import nothing
from shimcore.systemd.kubelet_way import KubeletWay, Way

ROOT = Path(__file__).parents[3]


def test_every_metric_is_in_the_document() -> None:
    """docs/operations.md lists those of shimcore/daemon/metrics.py."""
    served = (ROOT / "shimcore/daemon/metrics.py").read_text()
    said = (ROOT / "docs/operations.md").read_text()
    names = re.findall(r'_(?:gauge|counter)\(\s*"(\w+)"', served)
    assert names
    assert [name for name in names if f"image_cri_shim_{name}" not in said] == []


def test_every_key_of_status_is_in_the_document() -> None:
    """docs/commands.md lists those of its JSON."""
    said = (ROOT / "docs/commands.md").read_text()
    keys = nothing("/x.yaml", "", "/x.sock", KubeletWay(Way.NO_KUBELET))
    assert [key for key in keys if f"`{key}`" not in said] == []
