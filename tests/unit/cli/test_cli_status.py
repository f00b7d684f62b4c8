"""`status --watch` for programs, and what a person reads."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cli import status
from cli.options import Output
from cli.render import Facts
from shimcore.client.admin import Condition, Status
from shimcore.client.facts import status_facts
from shimcore.pb import admin_pb2
from shimcore.systemd.kubelet_way import KubeletWay, Way


def test_each_look_is_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader of YAML gets as many as there were looks, not the last one's keys alone."""
    looks: list[str] = []

    def shown(path: str, _output: Output) -> Any:
        looks.append(path)
        print(f"look: {len(looks)}")
        return object()

    def sleep(_seconds: float) -> None:
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "_shown", shown)
    monkeypatch.setattr("cli.status.time.sleep", sleep)
    status._watched("/c.yaml", Output.YAML)
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [{"look": n} for n in (1, 2, 3)]


def rows(answer: admin_pb2.StatusResponse, key: str) -> list[str]:
    facts = status_facts(answer, KubeletWay(Way.NO_KUBELET))
    (block,) = status._blocks(Status(Condition.SERVING, facts))
    assert isinstance(block, Facts)
    return [cell.text for name, cell in block.pairs if name == key]


def test_older_processes() -> None:
    """Each has a row, one without a name as well; where they are not known that is said."""
    older = [
        admin_pb2.OlderProcess(pid=7, version="1.0.0", calls=1),
        admin_pb2.OlderProcess(),
    ]
    answer = admin_pb2.StatusResponse(older=older)
    assert rows(answer, "older process") == [
        "7 (version 1.0.0) finishes 1 call",
        "one finishes its calls",
    ]
    unknown = admin_pb2.StatusResponse(older_unknown="stateDir /state does not answer")
    assert rows(unknown, "older process") == ["unknown: stateDir /state does not answer"]


def test_what_cannot_be_kept() -> None:
    """A row for each, as the log says it."""
    answer = admin_pb2.StatusResponse(unkept=["/state: full", "/state/bypass: full"])
    assert rows(answer, "not kept") == ["/state: full", "/state/bypass: full"]
    assert rows(admin_pb2.StatusResponse(), "not kept") == []
