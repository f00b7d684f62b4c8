"""Reading a certificate's names and expiry from DER."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from shimcore.registry.http.certificate import parse_certificate
from tests.support.tls import PrivateCA


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("ca")
    issued = PrivateCA(folder).issue("registry.example", common_name="sealos.hub", days_left=90)
    return issued.certificate.public_bytes(serialization.Encoding.DER)


def test_names_and_expiry(der: bytes) -> None:
    """Issuer, subject and days are those of the certificate."""
    certificate = parse_certificate(der)
    assert certificate.issuer == "O=Example, CN=Demo CA"
    assert certificate.subject == "O=Example, CN=sealos.hub"
    assert certificate.days_left(datetime.datetime.now(tz=datetime.UTC)) == 89


def test_expired_is_negative(der: bytes) -> None:
    """The day after the last has -1 days left."""
    certificate = parse_certificate(der)
    late = certificate.not_after + datetime.timedelta(hours=1)
    assert certificate.days_left(late) == -1


@given(st.binary(max_size=80))
def test_any_bytes_are_a_certificate_or_a_value_error(data: bytes) -> None:
    """Nothing but ValueError comes out of bytes that are no certificate."""
    try:
        parse_certificate(data)
    except ValueError:
        return
    pytest.fail("these bytes are too short for a certificate")


@given(st.data())
def test_a_damaged_certificate_raises_value_error_or_reads(der: bytes, data: st.DataObject) -> None:
    """One changed byte anywhere is read or refused."""
    at = data.draw(st.integers(0, len(der) - 1))
    damaged = der[:at] + bytes([data.draw(st.integers(0, 255))]) + der[at + 1 :]
    try:
        parse_certificate(damaged)
    except ValueError:
        return
