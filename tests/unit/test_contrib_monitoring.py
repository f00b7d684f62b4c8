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
SCRAPE = ROOT / "contrib/prometheus/scrape.yaml"
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
    # Behind `label_` it is a node's label, as kube-state-metrics writes them.
    named = set(re.findall(r"(?<!label_)image_cri_shim_[a-z_]+", expression))
    for name in named:
        base = _ENDING.sub("", name).removeprefix("image_cri_shim_")
        assert f'"{base}"' in SERVED or f'"image_cri_shim_{base}"' in SERVED, name


def test_the_job_is_the_one_that_the_alert_asks_for() -> None:
    """Else `up` of a shim that is down is nobody's."""
    [job] = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}} == 0' in list(_expressions())
    assert not any("job=" in each for each in _expressions() if not each.startswith("up{"))


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="no promtool here"
)
def test_promtool_accepts_the_rules() -> None:
    """Prometheus' own checker."""
    checked = subprocess.run(
        ["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="no promtool here"
)
@pytest.mark.parametrize(("eval_time", "fires"), [("8m", False), ("11m", True)])
def test_a_registry_that_fails_is_an_alert_after_five_minutes(
    tmp_path: Path, eval_time: str, fires: bool
) -> None:
    """It begins to in the fifth minute: neither one moment nor twice the time counts."""
    series = 'image_cri_shim_registry_state{registry="hub", state="down"}'
    sample = 'ALERTS{alertstate="firing", alertname="ImageShimRegistryFailing"}'
    fired = [{"labels": "{}", "value": 1}] if fires else []
    _promtool(tmp_path, series, "0x4 1x30", f"count({sample})", eval_time, fired)


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="no promtool here"
)
@pytest.mark.parametrize(("eval_time", "fires"), [("8m", False), ("11m", True)])
def test_a_runtime_that_is_away_is_an_alert_after_five_minutes(
    tmp_path: Path, eval_time: str, fires: bool
) -> None:
    """Whether anybody calls it meanwhile or not."""
    sample = 'ALERTS{alertstate="firing", alertname="ImageShimRuntimeUnavailable"}'
    fired = [{"labels": "{}", "value": 1}] if fires else []
    series = 'image_cri_shim_runtime_ready{instance="n1"}'
    _promtool(tmp_path, series, "1x4 0x30", f"count({sample})", eval_time, fired)


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"), reason="no promtool here"
)
@pytest.mark.parametrize(
    ("state", "alerts"),
    [
        ("1.2.3.healthy", set()),
        ("1.2.3.switching", set()),
        ("waiting", set()),
        ("unsupported", set()),
        ("removed", set()),
        ("1.2.3.bypassed", {"ImageShimNodeBypassed"}),
        ("1.2.3.failing", {"ImageShimNodeFailing"}),
        ("1.2.3.unwired", {"ImageShimNodeFailing"}),
        ("1.2.3.undone", {"ImageShimRolloutHalted"}),
        ("1.2.3.refused", {"ImageShimNodeRefused"}),
    ],
)
def test_states_of_nodes_are_alerts(tmp_path: Path, state: str, alerts: set[str]) -> None:
    """What a pod of the chart writes on its node fires what is meant for it, and nothing else."""
    series = f'kube_node_labels{{node="n1", label_image_cri_shim_io_state="{state}"}}'
    names = [
        rule["alert"]
        for group in yaml.safe_load(ALERTS.read_text())["groups"]
        if group["name"] == "image-cri-shim-fleet"
        for rule in group["rules"]
    ]
    sample = f'ALERTS{{alertstate="firing", alertname=~"{"|".join(names)}"}}'
    fired = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(alerts)]
    _promtool(tmp_path, series, "1x30", f"count by (alertname) ({sample})", "20m", fired)


def _promtool(
    folder: Path, series: str, values: str, expression: str, eval_time: str, samples: list[Any]
) -> None:
    """The rules, with a series whose values are a minute apart, have the expression be that."""
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values}],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": eval_time,
                        "exp_samples": samples,
                    }
                ],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
