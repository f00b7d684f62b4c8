"""A client's TLS context: whom it trusts, and how strict it is."""

from __future__ import annotations

import ssl


def client_context(authority: str | None = None) -> ssl.SSLContext:
    """Trusts the system's authorities, or those of `authority` (PEM) alone.

    Raises ssl.SSLError and ValueError for an authority that is none.
    """
    if authority == "":
        raise ValueError("no certificate")  # ssl would take the system's
    context = ssl.create_default_context(cadata=authority)
    # As Go has it, and Python before 3.13: many a private authority, and those of older clusters,
    # lack what RFC 5280 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
