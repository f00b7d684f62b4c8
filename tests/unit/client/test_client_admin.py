"""What can be said of a shim whose configuration cannot be read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shimcore.client import admin
from shimcore.client.admin import Endpoint, endpoint_of
from shimcore.errors import AdminError


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


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sockets are the ones."""
    monkeypatch.setattr(admin, "DEFAULT_SHIM", str(tmp_path / "shim.sock"))
    found = admin.status(endpoint_of(str(tmp_path / "none.yaml")))
    assert found.condition is admin.Condition.NOT_RUNNING
