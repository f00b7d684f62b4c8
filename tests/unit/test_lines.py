"""What foreign text can do to a log, a status line and whoever reads them: nothing."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from shimcore.daemon import logs
from shimcore.daemon.notify import notify
from shimcore.lines import journal_reads

EVIL = "a\x1b[2J\0<0>b\nc\u2028d\u202ee\x85 \u00fc"
SHOWN = r"a\x1b[2J\x00<0>b\nc\x2028d\x202ee\x85 ü"


@pytest.mark.parametrize("formatter", [logs._OneLine, logs._Journal])
def test_a_log_line_is_one(formatter: type[logging.Formatter]) -> None:
    """A traceback keeps its lines, and no more than those."""
    start = "<6>" if formatter is logs._Journal else ""
    what = ValueError, ValueError("x\x1b[2J\ny"), None
    record = logging.LogRecord("shimcore", logging.INFO, "", 0, "%s", (EVIL,), what)
    lines = formatter("%(message)s").format(record).split("\n")
    assert lines == [start + SHOWN, start + r"ValueError: x\x1b[2J", start + "y"]


def test_a_status_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other assignment to the manager can be in it."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n.sock"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n.sock"))
        notify("READY=1", "STATUS=a\x1b\0\nMAINPID=1")
        assert manager.recv(4096) == rb"READY=1" + b"\n" + rb"STATUS=a\x1b\x00\x0aMAINPID=1"


def test_the_journal_is_what_systemd_has_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was inherited with another standard error means nothing."""
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert journal_reads()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    assert not journal_reads()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not journal_reads()
