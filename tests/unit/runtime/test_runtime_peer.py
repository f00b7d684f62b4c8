"""The process behind a socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from shimcore.runtime.peer import peer_of


def test_who_listens(tmp_path: Path) -> None:
    """The one that listens, with its command line; nobody where nobody does."""
    path = str(tmp_path / "x.sock")
    assert peer_of(path) is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        assert peer_of(path) is None
        listening.listen()
        found = peer_of(path)
    assert found is not None
    assert found.pid == os.getpid()
    assert "python" in found.name
