"""`status --watch` for programs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cli import status
from cli.options import Output


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
