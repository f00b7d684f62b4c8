"""How strict the clients' TLS contexts are."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.fleet.api import pod_account
from shimcore.fleet.values import FleetError
from shimcore.registry.http.tls import make_context
from tests.support.tls import PrivateCA


@pytest.fixture(autouse=True)
def _in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts are as Python 3.13 makes them."""
    made = ssl.create_default_context

    def make(*arguments: Any, **named: Any) -> ssl.SSLContext:
        context = made(*arguments, **named)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", make)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "make",
    [
        lambda ca: make_context("hub", str(ca), insecure=False),
        lambda ca: Kubeconfig("https://api", authority=ca.read_bytes()).tls(),
        lambda ca: pod_account(ca.parent).tls(),
    ],
    ids=["registry", "node", "pod"],
)
def test_authorities_that_lack_key_identifiers(
    make: Callable[[Path], ssl.SSLContext], tmp_path: Path
) -> None:
    """They are trusted under every Python, as Go's programs trust them."""
    ca_file = PrivateCA(tmp_path).ca_file
    context = make(ca_file.rename(tmp_path / "ca.crt"))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_pod_whose_authority_is_none(tmp_path: Path) -> None:
    """The file is named."""
    file = tmp_path / "ca.crt"
    for content in (b"no certificate", b"\xff", b""):
        file.write_bytes(content)
        with pytest.raises(FleetError, match=r"ca\.crt: not a certificate"):
            pod_account(tmp_path)
