"""The place of a listening socket: whether there can be one, and how it is left."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from shimcore.daemon.sockets import ListeningSocket, check_place
from shimcore.errors import ShimError


def test_a_place_that_is_free_or_taken(tmp_path: Path) -> None:
    """Both are good; nothing but the lock is left there."""
    path = str(tmp_path / "run" / "shim.sock")
    check_place(path)
    assert os.listdir(tmp_path / "run") == ["shim.sock.lock"]
    taken = ListeningSocket(path)
    taken.listen()
    check_place(path)
    taken.close()
    assert os.listdir(tmp_path / "run") == ["shim.sock.lock"]


@pytest.mark.parametrize("end", [".lock", ""])
def test_a_place_that_takes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A lock that is there may be opened where nothing can be made beside it."""
    path, usual = str(tmp_path / "shim.sock"), os.open

    def refuse(place: str, flags: int, mode: int = 0o777) -> int:
        if place == f"{path}{end or f'.{os.getpid()}'}":
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(place, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ShimError, match=f"^socket {path}: No space left on device; is the dir"):
        check_place(path)


def test_a_socket_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, which is said; the end is none the worse, and the lock is free."""
    path = str(tmp_path / "shim.sock")
    socket = ListeningSocket(path)
    socket.listen()
    with monkeypatch.context() as patch:

        def refuse(place: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        patch.setattr(os, "unlink", refuse)
        socket.close()
    assert [each.getMessage() for each in caplog.records] == [
        f"socket {path}: it stays: Read-only file system"
    ]
    ListeningSocket(path).close()
    assert not os.path.exists(path)
