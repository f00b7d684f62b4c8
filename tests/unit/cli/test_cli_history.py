"""`history --follow` over the ends of the process that it asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cli import history
from cli.options import Output
from shimcore.client import admin
from shimcore.client.admin import Endpoint, History, StartingError
from shimcore.errors import AdminError

ENDPOINT = Endpoint("/c.yaml", "/s.sock", "/s.sock.admin")
Step = History | AdminError | None


def pulled(number: int) -> History:
    call: dict[str, Any] = {
        "time": "2026-01-02T03:04:05Z",
        "call": "PullImage",
        "image": f"web:{number}",
        "pod": None,
        "outcome": "pulled",
        "registry": None,
        "bytes": 0,
        "seconds": 1.0,
        "registries": [],
        "reason": None,
    }
    return History([call], [], number, "7 1.0")


def follow(monkeypatch: pytest.MonkeyPatch, steps: Iterator[Step]) -> int:
    """The exit status; `steps` are the answers, the last one for ever."""
    last: list[Step] = [None]

    def ask(_endpoint: Endpoint, before: History) -> History | None:
        assert before.last
        last[0] = next(steps, last[0])
        if isinstance(last[0], AdminError):
            raise last[0]
        return last[0]

    monkeypatch.setattr(admin, "history", ask)
    monkeypatch.setattr(history, "LOOK_S", 0.001)
    monkeypatch.setattr(history, "GONE_S", 0.05)
    wanted = history._Wanted(failed=False, image="", pod="")
    with pytest.raises(typer.Exit) as ended:
        history._follow(ENDPOINT, pulled(1), wanted, Output.TABLE)
    return ended.value.exit_code


def test_a_hand_over_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The socket is nobody's, a call is cut, the next process is just starting."""
    starting = [StartingError("the shim is starting")] * 100
    steps = iter([None, AdminError("unavailable: cut"), *starting, pulled(2), None])
    assert follow(monkeypatch, steps) == 3
    told = capsys.readouterr()
    assert told.out.count("web:1") == told.out.count("web:2") == 1
    assert told.err == "image-cri-shim: the shim has stopped\n"


def test_an_error_that_stays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by every command."""
    monkeypatch.setattr(history, "LOOK_S", 0.001)
    monkeypatch.setattr(history, "GONE_S", 0.05)

    def ask(_endpoint: Endpoint, before: History) -> None:
        raise AdminError(f"admin socket: no answer after {before.last}")

    monkeypatch.setattr(admin, "history", ask)
    with pytest.raises(AdminError, match="no answer after 7"):
        history._since(ENDPOINT, pulled(7))
