"""The dashboard and the alert rules name only metrics that the shim serves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "contrib/prometheus/alerts.yaml"
DASHBOARD = ROOT / "contrib/grafana/image-cri-shim.json"
SERVED = (ROOT / "shimcore/daemon/metrics.py").read_text()
_ENDING = re.compile(r"_(total|bucket|count|sum)$")


def _expressions() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(_expressions()))
def test_every_metric_that_is_asked_for_is_served(expression: str) -> None:
    """A renamed metric is a failing test, not an empty panel."""
    named = set(re.findall(r"image_cri_shim_[a-z_]+", expression))
    for name in named:
        base = _ENDING.sub("", name).removeprefix("image_cri_shim_")
        assert f'"{base}"' in SERVED or f'"image_cri_shim_{base}"' in SERVED, name


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="no promtool here"
)
def test_promtool_accepts_the_rules() -> None:
    """Prometheus' own checker."""
    checked = subprocess.run(
        ["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
