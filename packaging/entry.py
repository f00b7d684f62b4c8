"""Starts the command line inside the bundle, and sets right what its own libraries upset."""

from __future__ import annotations

import os

DEBIAN_AUTHORITIES = "/usr/lib/ssl/certs"
AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL, openEuler, Kylin
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL 10
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that they trust (Go's crypto/x509, root_linux.go)."""


def give_back_library_path() -> None:
    """Let child processes, systemctl say, find the system's libraries and not the bundle's."""
    # A child may be this command once more: it sets out anew, and does not rely on our path.
    os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before


def trust_system_authorities() -> None:
    """Name the system's authorities where OpenSSL, as Debian builds it, looks in vain."""
    named = {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ)
    if named or os.path.exists(DEBIAN_AUTHORITIES):
        return
    for path in AUTHORITIES:
        if os.path.exists(path):
            os.environ["SSL_CERT_FILE"] = path
            return


if __name__ == "__main__":
    give_back_library_path()
    trust_system_authorities()
    from cli.main import run

    run()
