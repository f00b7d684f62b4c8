"""What the bundle's start sets right before the command line runs."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENTRY = Path(__file__).parents[3] / "packaging/entry.py"
NAMES = ("LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The module's names; the environment is put back afterwards."""
    for name in (*NAMES, "PYINSTALLER_RESET_ENVIRONMENT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return runpy.run_path(str(ENTRY), run_name="entry")


@pytest.mark.parametrize("before", [None, "/opt/lib"])
def test_children_get_the_systems_libraries(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """The library path is what it was before the bundle started."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib/image-cri-shim/lib")
    if before is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", before)
    entry["give_back_library_path"]()
    assert os.environ.get("LD_LIBRARY_PATH") == before
    assert "LD_LIBRARY_PATH_ORIG" not in os.environ
    assert os.environ["PYINSTALLER_RESET_ENVIRONMENT"] == "1"


@pytest.mark.parametrize(
    ("there", "environment", "expected"),
    [
        ({"/etc/pki/tls/certs/ca-bundle.crt"}, {}, "/etc/pki/tls/certs/ca-bundle.crt"),
        ({"/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"}, {}, "/etc/ssl/ca-bundle.pem"),
        ({"/usr/lib/ssl/certs", "/etc/ssl/cert.pem"}, {}, None),
        (set(), {}, None),
        ({"/etc/ssl/cert.pem"}, {"SSL_CERT_FILE": "/mine.pem"}, "/mine.pem"),
        ({"/etc/ssl/cert.pem"}, {"SSL_CERT_DIR": "/mine"}, None),
    ],
)
def test_the_systems_authorities_are_trusted(
    entry: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    there: set[str],
    environment: dict[str, str],
    expected: str | None,
) -> None:
    """Wherever a system keeps them; what the operator names wins."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exists: Callable[[str], bool] = there.__contains__
    monkeypatch.setattr("os.path.exists", exists)
    entry["trust_system_authorities"]()
    assert os.environ.get("SSL_CERT_FILE") == expected
