"""HTTP/2 conformance: h2spec sees through the shim what it sees of containerd itself."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.forward import Forward
from tests.e2e.support.report import NOTES
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.e2e

PATHS = {
    "a call that is passed on": "/runtime.v1.RuntimeService/Version",
    "a call that is opened": "/runtime.v1.ImageService/ImageStatus",
}
# How long a case may wait for an answer. Cases that containerd leaves unanswered take it all.
ANSWER_S = 1
RUN_S = 300
# A busy machine can make one case late: what differs is tried again.
TRIES = 3

# (path, section, case) → why the shim's answer is another one than containerd's, and right.
REASONS: dict[tuple[str, str, str], str] = {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What h2spec says of one case; `seen` is its account of a failure."""

    result: str
    seen: str = ""

    def __str__(self) -> str:
        return f"{self.result} {' '.join(self.seen.split())}".strip()


Report = dict[tuple[str, str], Outcome]


def h2spec(port: int, path: str, report: Path, sections: Iterable[str] = ()) -> Report:
    """One run against a port of 127.0.0.1; no sections means all."""
    subprocess.run(
        [
            *("h2spec", *sections, "--host", "127.0.0.1", "--port", str(port), "--path", path),
            *("--timeout", str(ANSWER_S), "--junit-report", report),
        ],
        capture_output=True,
        check=False,
        timeout=RUN_S,
    )
    return dict(read_report(report))


def read_report(report: Path) -> Iterable[tuple[tuple[str, str], Outcome]]:
    """(section, case) → outcome, of a JUnit report as h2spec writes it."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        key = (case.get("package", ""), case.get("classname", ""))
        outcome = Outcome("passed")
        for result in ("error", "failure", "skipped"):
            found = case.find(result)
            if found is not None:
                outcome = Outcome(result, found.text or "")
        yield key, outcome


def summary(report: Report) -> str:
    """`145 cases: 115 passed, …`"""
    results = [outcome.result for outcome in report.values()]
    counts = ", ".join(f"{results.count(name)} {name}" for name in sorted(set(results)))
    return f"{len(results)} cases: {counts}"


@pytest.fixture(scope="module")
def tool() -> None:
    if shutil.which("h2spec") is None:
        refuse("needs h2spec")


def test_the_shim_conforms_as_containerd_does(
    tool: None, runtime: Containerd, shim: Shim, tmp_path: Path
) -> None:
    """Every case ends as without the shim, or the difference has its reason here."""
    with (
        contextlib.closing(Forward(runtime.socket)) as direct,
        contextlib.closing(Forward(shim.socket)) as via,
        ThreadPoolExecutor(2 * len(PATHS)) as pool,
    ):
        comparing = {
            call: pool.submit(compare, call, direct.port, via.port, tmp_path) for call in PATHS
        }
        unexplained = [line for call in PATHS for line in comparing[call].result()]
    assert not unexplained, "\n".join(unexplained)


def compare(call: str, direct_port: int, via_port: int, folder: Path) -> list[str]:
    """The cases of one call that differ without a reason."""
    path = PATHS[call]

    def run(sections: Iterable[str] = ()) -> tuple[Report, Report]:
        with ThreadPoolExecutor(2) as pool:
            there = folder / path.replace("/", "-")
            ports = {"direct": direct_port, "shim": via_port}
            runs = [
                pool.submit(h2spec, port, path, there.with_suffix(f".{way}.xml"), sections)
                for way, port in ports.items()
            ]
            return runs[0].result(), runs[1].result()

    direct, via = run()
    assert len(direct) > 100
    assert direct.keys() == via.keys()
    differing = {key for key in direct if direct[key] != via[key]}
    for _ in range(TRIES - 1):
        if sections := sorted({section for section, _ in differing}):
            again, via_again = run(sections)
            differing = {key for key in differing if again[key] != via_again[key]}
    NOTES.append(
        f"h2spec, {call}: containerd {summary(direct)}; through the shim {summary(via)}; "
        f"{len(differing)} differ"
    )
    wrong = [
        f"{section} {case}: containerd {direct[section, case]}; shim {via[section, case]}"
        for section, case in sorted(differing)
        if (path, section, case) not in REASONS
    ]
    stale = {key for key in REASONS if key[0] == path} - {(path, *key) for key in differing}
    return wrong + [f"a reason for a case that does not differ: {key}" for key in sorted(stale)]
