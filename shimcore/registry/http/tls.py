"""TLS as a registry's configuration wants it, and what a session says about itself."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from shimcore.registry.answers import TlsReport
from shimcore.registry.errors import one_line
from shimcore.registry.http.certificate import parse_certificate
from shimcore.tls import client_context, pem_text


def make_context(authority: bytes | None, *, insecure: bool) -> ssl.SSLContext:
    """Return a client context: the system's CAs, and `authority` beside them as containerd does."""
    # The system's take 30 ms to read, and count for nothing where nothing is verified.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if insecure else client_context()
    # A handshake costs milliseconds of the event loop; it is not the other side's to ask for more.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if authority:
        context.load_verify_locations(cadata=pem_text(authority))
    return context


def report_session(session: object) -> TlsReport | None:
    """Describe the TLS session of an answer; None for a plain connection."""
    if not isinstance(session, (ssl.SSLObject, ssl.SSLSocket)):
        return None
    verified = session.context.verify_mode == ssl.CERT_REQUIRED
    version = session.version() or ""
    der = session.getpeercert(binary_form=True) or b""
    try:
        certificate = parse_certificate(der)
    except ValueError:
        return TlsReport(version, issuer="", subject="", days_left=0, verified=verified)
    now = datetime.now(tz=UTC)
    return TlsReport(
        version=version,
        issuer=one_line(certificate.issuer),
        subject=one_line(certificate.subject),
        days_left=certificate.days_left(now),
        verified=verified,
        begins_in_days=certificate.begins_in_days(now),
    )
