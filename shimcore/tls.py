"""A client's TLS context: whom it trusts, and how strict it is."""

from __future__ import annotations

import ssl


def client_context(authority: bytes | None = None) -> ssl.SSLContext:
    """Trusts the system's authorities, or those of `authority` (PEM) alone.

    Raises ssl.SSLError and ValueError for an authority that is none.
    """
    text = None if authority is None else pem_text(authority)
    if text == "":
        raise ValueError("no certificate")  # ssl would take the system's
    context = ssl.create_default_context(cadata=text)
    # As Go has it, and Python before 3.13: many a private authority, and those of older clusters,
    # lack what RFC 5280 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # As both have it: an authority that is given is trusted, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def pem_text(content: bytes) -> str:
    """Certificates as ssl wants them: bundles have comments in any encoding."""
    return content.decode("ascii", "ignore")
