"""Whether the process that runs is of before the switch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shimcore.client import admin
from shimcore.client.admin import Endpoint, Vitals
from shimcore.errors import AdminError
from shimcore.switch.steps import Serving


@pytest.mark.parametrize(
    ("version", "changed", "other"),
    [
        ("2.0.0", False, False),
        ("1.0.0", False, True),
        ("2.0.0", True, True),
        (None, False, True),
        ("does not answer", False, True),
    ],
)
def test_a_process_of_before(
    version: str | None, changed: bool, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the same version that has other sockets than the new configuration is one, too."""
    endpoint = Endpoint("/c.yaml", "/s.sock", "/s.sock.admin", changed=changed)

    def vitals(_: Endpoint) -> Vitals | None:
        if version == "does not answer":
            raise AdminError(version)
        return Vitals(version, 1.0, True, "/r.sock", True, {}) if version else None

    monkeypatch.setattr(admin, "running_endpoint", lambda _: endpoint)
    monkeypatch.setattr(admin, "vitals", vitals)
    work: Any = SimpleNamespace(request=SimpleNamespace(version="2.0.0"))
    assert Serving(work).is_other_version() is other
