"""A private certificate authority and server certificates, made for one test run."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class ServerCertificate:
    """A server's certificate and key, in PEM files."""

    cert_file: Path
    key_file: Path
    certificate: x509.Certificate

    def context(self) -> ssl.SSLContext:
        """Return what a TLS server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class PrivateCA:
    """A CA whose certificate is in `ca_file`: by its own word, or another CA's."""

    def __init__(
        self,
        folder: Path,
        name: str = "Demo CA",
        by: PrivateCA | None = None,
        *,
        days_left: float = 365,
        begins_in: float = -1,
    ) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        issuer = by or self
        now = datetime.datetime.now(tz=datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(issuer._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins_in * DAY)
            .not_valid_after(now + days_left * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(_pem(self._certificate))

    def issue(
        self,
        *addresses: str,
        days_left: float = 90,
        begins_in: float = -60,
        common_name: str = "registry",
        organization: str = "Example",
    ) -> ServerCertificate:
        """Issue a certificate for IP addresses or DNS names; negative days left: expired.

        Without addresses it is a client's: the name and, as its group, the organization.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(tz=datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name, organization))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins_in * DAY)
            .not_valid_after(now + days_left * DAY)
        )
        if addresses:
            names = x509.SubjectAlternativeName(list(map(_alternative, addresses)))
            builder = builder.add_extension(names, False)
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = f"{common_name.replace(':', '-')}-{certificate.serial_number:x}"
        cert_file, key_file = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        cert_file.write_bytes(_pem(certificate))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return ServerCertificate(cert_file, key_file, certificate)


def _name(common_name: str, organization: str = "Example") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _alternative(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
