"""What can be said of a shim whose configuration cannot be read."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
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
    if known:
        found = admin.status(endpoint)
        assert found.condition is admin.Condition.NOT_RUNNING
        assert found.facts["config"]["error"] == f"{password}: it does not answer"
    else:
        with pytest.raises(AdminError) as caught:
            admin.status(endpoint)
        said = f"{file}: it does not answer, so it is not known where its shim listens"
        assert str(caught.value) == said
        monkeypatch.setattr(admin, "SIGN", str(tmp_path))
        found = admin.status(endpoint)
        assert found.condition is admin.Condition.BYPASS
        assert found.facts["config"]["error"] == f"{file}: it does not answer"
    go_on.set()


def test_a_state_dir_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the file."""
    go_on = threading.Event()
    monkeypatch.setattr("shimcore.config.state.read_file", lambda _: go_on.wait(20))
    monkeypatch.setattr(admin, "ANSWER_S", 0.2)
    file = tmp_path / "c.yaml"
    file.write_text(f"adress: http://h\nshim: {tmp_path}/s.sock\nstateDir: state\n")
    error = admin.status(endpoint_of(str(file))).facts["config"]["error"]
    go_on.set()
    assert "adress: unknown key" in error
    assert "answer" not in error


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The admin socket of a shim that was started with c.yaml and the default stateDir."""
    monkeypatch.setattr(admin, "STATE_DIR", str(tmp_path))
    path, note = f"{tmp_path}/old.admin", tmp_path / "pulls.journal.lock"
    said = {"file": f"{tmp_path}/c.yaml", "shim_socket": "/x", "admin_socket": path}
    note.write_text(json.dumps(said))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        yield path


@pytest.mark.parametrize(
    ("text", "changed"),
    [("admin: /new.sock\n", True), ("- no mapping\n", False), ("\xff", False), (None, False)],
)
def test_a_shim_that_has_other_sockets(
    served: str, tmp_path: Path, text: str | None, changed: bool
) -> None:
    """It is found; the file has others by now only where it says so."""
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    found = admin.running_endpoint(str(file))
    assert (found.admin_socket, found.changed) == (served, changed)


@pytest.mark.parametrize("started_with_link", [True, False])
def test_a_file_by_a_symbolic_link(served: str, tmp_path: Path, started_with_link: bool) -> None:
    """It is one file, whichever of its names the shim was started with."""
    named, other = tmp_path / "c.yaml", tmp_path / "other.yaml"
    file, link = (other, named) if started_with_link else (named, other)
    file.write_text("admin: /new.sock\n")
    link.symlink_to(file)
    assert admin.running_endpoint(str(other)).admin_socket == served
    third = tmp_path / "third.yaml"
    third.write_text("admin: /new.sock\n")
    assert admin.running_endpoint(str(third)).admin_socket == "/new.sock"


def test_a_file_with_faults_that_names_its_sockets(tmp_path: Path) -> None:
    """They count; its fault is told."""
    file = tmp_path / "c.yaml"
    file.write_text(f"adress: http://h\nshim: {tmp_path}/s.sock\n")
    endpoint = endpoint_of(str(file))
    assert endpoint.admin_socket == f"{tmp_path}/s.sock.admin"
    assert "adress" in admin.status(endpoint).facts["config"]["error"]
