"""`status --watch` for programs, and what a person reads."""

from __future__ import annotations

from typing import NoReturn

import pytest
import yaml

from cli import status
from cli.options import Output
from cli.render import Facts
from shimcore.client import admin
from shimcore.client.admin import Condition, Endpoint, Status
from shimcore.client.facts import status_facts
from shimcore.errors import AdminError
from shimcore.pb import admin_pb2
from shimcore.systemd.kubelet_way import KubeletWay, Way


def test_each_look_is_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader of YAML gets one for each that is shown; a look that fails is told."""
    looks = 0

    def look(_endpoint: Endpoint) -> Status:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise AdminError("/c.yaml: it does not answer")
        return Status(Condition.SERVING, {"look": looks})

    def sleep(_seconds: float) -> None:
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(admin, "status", look)
    monkeypatch.setattr("cli.status.time.sleep", sleep)
    status._watched("/c.yaml", Output.YAML)
    said = capsys.readouterr()
    assert list(yaml.safe_load_all(said.out)) == [{"look": 1}, {"look": 3}]
    assert said.err == "image-cri-shim: /c.yaml: it does not answer\n"


def test_a_first_look_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command: another user, or another file, is wanted."""

    def look(_endpoint: Endpoint) -> NoReturn:
        raise AdminError("/c.yaml: permission denied; run this as root")

    monkeypatch.setattr(admin, "status", look)
    with pytest.raises(AdminError):
        status._watched("/c.yaml", Output.TABLE)


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
