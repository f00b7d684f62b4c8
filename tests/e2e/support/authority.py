"""A private certificate authority and the token server that distribution's `token` auth wants."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import secrets
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

# distribution 2.8 accepts a token for this long after its `exp` (registry/auth/token, Leeway).
REGISTRY_LEEWAY_S = 60


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of one certificate; `ca` is what a client has to trust."""

    certificate: Path
    key: Path
    ca: Path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: str, issuer: str, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    first = min(now, now + datetime.timedelta(days=days)) - datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def issue_certificate(
    directory: Path, *, days: int = 30, ip: str = "127.0.0.1", name: str = "localhost"
) -> Certificate:
    """A server certificate for an address and a name, signed by a CA of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = (
        _builder("e2e root", "e2e root", 365)
        .public_key(ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [x509.IPAddress(ipaddress.ip_address(ip)), x509.DNSName(name)]
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    leaf = (
        _builder("e2e registry", "e2e root", days)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = Certificate(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
    files.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(_pem(key))
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return files


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Issues RS256 tokens to one user (distribution, “Token Authentication Specification”).

    `valid_for_s` is how long the registry honours a token; `told_s` is the `expires_in` that
    the client is told. A client that believes `told_s` meets 401 once `valid_for_s` is over.
    """

    issuer = "e2e-tokens"
    service = "e2e-registry"

    def __init__(self, directory: Path, username: str, password: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.root_bundle = directory / "token-root.pem"
        self.valid_for_s = 300.0
        self.told_s = 300
        self.asked: list[str] = []
        self._login = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = (
            _builder("e2e tokens", "e2e tokens", 30)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root_bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        der = certificate.public_bytes(serialization.Encoding.DER)
        self._x5c = [base64.b64encode(der).decode()]
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.realm = f"http://127.0.0.1:{self._http.server_port}/token"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def issue(self, scopes: list[str]) -> str:
        """A signed token that grants exactly `scopes` (`repository:NAME:pull,push`)."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "e2e",
            "aud": self.service,
            "exp": int(time.time() + self.valid_for_s - REGISTRY_LEEWAY_S),
            "nbf": now - 600,
            "iat": now - 600,
            "jti": secrets.token_hex(8),
            "access": [self._access(scope) for scope in scopes],
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": self._x5c}
        signed = ".".join(_b64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_b64url(signature)}"

    @staticmethod
    def _access(scope: str) -> dict[str, Any]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        return {"type": kind, "name": name, "actions": actions.split(",")}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if self.headers.get("Authorization") != f"Basic {server._login}":
                    self._answer(401, {"details": "incorrect username or password"})
                    return
                query = parse_qs(urlsplit(self.path).query)
                scopes = [s for value in query.get("scope", []) for s in value.split()]
                token = server.issue(scopes)
                self._answer(200, {"token": token, "expires_in": server.told_s})

            def do_POST(self) -> None:
                """Refused, as by servers without OAuth: containerd then asks by GET."""
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(405, {"details": "GET only"})

            def _answer(self, status: int, value: dict[str, Any]) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
