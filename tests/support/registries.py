"""Configured registries and candidates, as the images room hands them to the client."""

from __future__ import annotations

from pathlib import Path

from shimcore.config import Credentials, Registry
from shimcore.reference import Mirror, Reference

LOGIN = Credentials("admin", "s3cret-passw0rd")


def configured(
    address: str,
    *,
    credentials: Credentials | None = None,
    ca_file: Path | None = None,
    insecure: bool = False,
) -> Registry:
    """Return a registry as the configuration would have it for that address."""
    scheme, _, host = address.partition("://")
    return Registry(
        address=address,
        scheme=scheme,
        host=host,
        priority=500,
        is_hub=False,
        credentials=credentials,
        credentials_source="auth" if credentials else "",
        ca_file=str(ca_file) if ca_file else None,
        authority=ca_file.read_bytes() if ca_file else None,
        insecure_skip_verify=insecure,
        mirror=Mirror(host),
        stall_timeout_s=30.0,
    )


def candidate(
    registry: Registry, path: str = "library/nginx", tag: str | None = "latest", digest: str = ""
) -> Reference:
    """Return the name of an image at a registry."""
    return Reference(registry.host, path, tag, digest or None)
