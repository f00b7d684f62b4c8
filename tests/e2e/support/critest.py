"""critest, CRI's conformance suite as it is published, run on one socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .containerd import LIBRARY

CRITEST = LIBRARY / "critest"


@dataclass(frozen=True, slots=True)
class Spec:
    """What came of one spec: `passed`, `skipped` (by itself), else what went wrong; and why."""

    state: str
    seconds: float
    message: str = ""

    @property
    def ran(self) -> bool:
        return self.state != "skipped"

    @property
    def passed(self) -> bool:
        return self.state == "passed"


Report = Mapping[str, Spec]


def run_critest(
    socket: Path, directory: Path, *, focus: str, seed: int, timeout_s: float
) -> Report:
    """The specs whose names match `focus`, in the order that `seed` gives.

    Its log and report stay in `directory`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    with (directory / "log").open("w") as log:
        subprocess.run(
            [
                CRITEST,
                f"-runtime-endpoint=unix://{socket}",
                f"-image-endpoint=unix://{socket}",
                f"-ginkgo.focus={focus}",
                f"-ginkgo.seed={seed}",
                f"-ginkgo.timeout={timeout_s:g}s",
                f"-ginkgo.json-report={report}",
                "-ginkgo.no-color",
                "-test.timeout=0",
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            timeout=timeout_s + 60,
        )
    assert report.exists(), (directory / "log").read_text()[-2000:]
    (suite,) = json.loads(report.read_text())
    return dict(_spec(entry) for entry in suite["SpecReports"] if _is_selected(entry))


def _is_selected(entry: Mapping[str, Any]) -> bool:
    """Whether it is a spec and `focus` wanted it: one that skips itself says why."""
    return entry["LeafNodeType"] == "It" and (entry["State"] != "skipped" or "Failure" in entry)


def _spec(entry: Mapping[str, Any]) -> tuple[str, Spec]:
    name = " ".join([*(entry["ContainerHierarchyTexts"] or []), entry["LeafNodeText"]])
    message = entry.get("Failure", {}).get("Message", "")
    return name, Spec(entry["State"], entry["RunTime"] / 1e9, message)
