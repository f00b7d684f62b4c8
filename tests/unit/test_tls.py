"""How strict the clients' TLS contexts are."""

from __future__ import annotations

import contextlib
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


CLIENTS = pytest.mark.parametrize(
    "make",
    [
        lambda ca: make_context(ca.read_bytes(), insecure=False),
        lambda ca: Kubeconfig("https://api", authority=ca.read_bytes()).tls(),
        lambda ca: pod_account(ca.parent).tls(),
    ],
    ids=["registry", "node", "pod"],
)


@pytest.mark.usefixtures("strict")
@CLIENTS
def test_authorities_that_lack_key_identifiers(
    make: Callable[[Path], ssl.SSLContext], tmp_path: Path
) -> None:
    """They are trusted under every Python, as Go's programs trust them."""
    ca_file = PrivateCA(tmp_path).ca_file
    context = make(ca_file.rename(tmp_path / "ca.crt"))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@CLIENTS
def test_an_authority_that_another_has_signed(
    make: Callable[[Path], ssl.SSLContext], tmp_path: Path
) -> None:
    """It is trusted alone, as Go's programs trust it; comments are in any encoding."""
    (tmp_path / "root").mkdir()
    between = PrivateCA(tmp_path, "Between", by=PrivateCA(tmp_path / "root"))
    server = between.issue("hub.example").context()
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes("# Behörde\n".encode() + between.ca_file.read_bytes())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = server.wrap_bio(to_server, to_client, server_side=True)
    client = make(ca_file).wrap_bio(to_client, to_server, server_hostname="hub.example")
    for side in (client, served, client, served):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert()


def test_where_nothing_is_verified() -> None:
    """No authority is read."""
    context = make_context(None, insecure=True)
    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_NONE
    assert context.cert_store_stats()["x509"] == 0
    assert make_context(None, insecure=False).verify_mode is ssl.CERT_REQUIRED


def test_a_pod_whose_authority_is_none(tmp_path: Path) -> None:
    """The file is named."""
    file = tmp_path / "ca.crt"
    for content in (b"no certificate", b"\xff", b""):
        file.write_bytes(content)
        with pytest.raises(FleetError, match=r"ca\.crt: not a certificate"):
            pod_account(tmp_path)
