"""The credentials that go with a pull: one registry's, made so that the runtime uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimcore.pb.cri_pb2 import AuthConfig
from shimcore.reference import DOCKER_HUB, DOCKER_HUB_SERVER, Reference

if TYPE_CHECKING:
    from shimcore.config import Registry

_SECRET_FIELDS = ("username", "password", "auth", "identity_token", "registry_token")


def auth_for(registry: Registry | None, reference: Reference) -> AuthConfig | None:
    """The registry's credentials for a pull of `reference` from it; None without any.

    containerd drops credentials silently unless the host of `server_address` is the one
    that it asks, so that is a whole URL of that host (`ParseAuth` of its CRI plugin). It
    also prefers a user name to an identity token, so only one of them is sent.
    """
    if registry is None or registry.credentials is None:
        return None
    known = registry.credentials
    host = DOCKER_HUB_SERVER if reference.domain == DOCKER_HUB else reference.domain
    server = f"{registry.scheme}://{host}"
    if known.identity_token:
        return AuthConfig(identity_token=known.identity_token, server_address=server)
    if not known.username and not known.password:
        return None
    return AuthConfig(username=known.username, password=known.password, server_address=server)


def is_empty(auth: AuthConfig) -> bool:
    """True when the caller sent no credentials; a server address alone is none."""
    return not any(getattr(auth, field) for field in _SECRET_FIELDS)


def secrets_of(registry: Registry | None) -> tuple[str, ...]:
    """The registry's secret texts, to be kept out of what others say about it."""
    if registry is None or registry.credentials is None:
        return ()
    known = registry.credentials
    return tuple(text for text in (known.password, known.identity_token) if text)
