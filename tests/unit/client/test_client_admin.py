"""What can be said of a shim whose configuration cannot be read."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shimcore.client import admin
from shimcore.client.admin import Endpoint, History, endpoint_of
from shimcore.errors import AdminError
from shimcore.pb import admin_pb2


@pytest.mark.parametrize(
    "ask", [admin.status, admin.history, admin.show_config, admin.vitals, admin.is_there]
)
def test_a_file_that_this_user_may_not_read(
    ask: Callable[[Endpoint], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the sockets: that nobody is at the default ones says nothing."""

    def denied(path: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("shimcore.config.files.read_file", denied)
    monkeypatch.setattr(admin, "DEFAULT_SHIM", "/nowhere/shim.sock")
    with pytest.raises(AdminError) as caught:
        ask(endpoint_of("/etc/c.yaml"))
    assert str(caught.value) == "/etc/c.yaml: permission denied; run this as root"
    assert isinstance(caught.value.__cause__, PermissionError)  # doctor asks for that


@pytest.mark.parametrize(
    ("processes", "last", "after"),
    [
        (("7 1.0", "7 1.0"), 9, [5]),
        (("7 1.0", "7 2.0"), 9, [5, 0]),
        (("7 1.0", ""), 9, [5, 0]),
        (("", "7 2.0"), 9, [5, 0]),
        (("", ""), 9, [5]),
        (("", ""), 4, [5, 0]),
    ],
)
def test_history_of_another_process(
    monkeypatch: pytest.MonkeyPatch, processes: tuple[str, str], last: int, after: list[int]
) -> None:
    """It counts its calls anew, and may have come as far as the one before by now."""
    asked = []
    before, now = processes

    def ask(_path: str, _method: str, after: int = 0) -> admin_pb2.HistoryResponse:
        asked.append(after)
        calls = [admin_pb2.ImageCall(image=f"web:{n}") for n in range(after + 1, last + 1)]
        return admin_pb2.HistoryResponse(calls=calls, last=last, process=now)

    monkeypatch.setattr(admin, "ask", ask)
    monkeypatch.setattr(admin, "_absence", lambda _: "")
    endpoint = Endpoint("/c.yaml", "/s.sock", "/s.sock.admin")
    found = admin.history(endpoint, History([], [], 5, before))
    assert found is not None
    assert asked == after
    assert (len(found.calls), found.last, found.process) == (last - after[-1], last, now)


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sockets are the ones."""
    monkeypatch.setattr(admin, "DEFAULT_SHIM", str(tmp_path / "shim.sock"))
    found = admin.status(endpoint_of(str(tmp_path / "none.yaml")))
    assert found.condition is admin.Condition.NOT_RUNNING


@pytest.mark.parametrize("silent", ["password", "c.yaml"])
def test_a_disk_that_does_not_answer(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sockets are known at once where it has a login alone; what is wrong is said in time."""
    go_on, plain = threading.Event(), os.open

    def opened(path: str, *arguments: int) -> int:
        if path.endswith(silent):
            go_on.wait(20)
        return plain(path, *arguments)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(admin, "ANSWER_S", 0.2)
    monkeypatch.setattr(admin, "DEFAULT_SHIM", str(tmp_path / "default.sock"))
    file, password = tmp_path / "c.yaml", tmp_path / "password"
    file.write_text(f"address: http://h\nhub: {{passwordFile: {password}}}\nshim: /x/s.sock\n")
    endpoint = endpoint_of(str(file))
    known = silent == "password"
    shim = "/x/s.sock" if known else str(tmp_path / "default.sock")
    assert (endpoint.shim_socket, endpoint.admin_socket) == (shim, f"{shim}.admin")
    found = admin.status(endpoint)
    assert found.condition is admin.Condition.NOT_RUNNING
    assert found.facts["config"]["error"] == f"{tmp_path / silent}: it does not answer"
    go_on.set()


def test_a_file_with_faults_that_names_its_sockets(tmp_path: Path) -> None:
    """They count; its fault is told."""
    file = tmp_path / "c.yaml"
    file.write_text(f"adress: http://h\nshim: {tmp_path}/s.sock\n")
    endpoint = endpoint_of(str(file))
    assert endpoint.admin_socket == f"{tmp_path}/s.sock.admin"
    assert "adress" in admin.status(endpoint).facts["config"]["error"]
