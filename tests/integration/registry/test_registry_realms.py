"""Token realms: which of them gets to see a password."""

from __future__ import annotations

import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import SCOPE, USERS, ask, manifests, wire
from tests.support.registries import LOGIN, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA


async def test_password_is_not_sent_to_a_plain_http_realm_on_another_host(
    client: RegistryClient,
) -> None:
    """The realm is asked without it, and the answer says why the login did not work."""
    async with (
        ScriptedRegistry("127.0.0.2", users=USERS, auth="bearer") as realm,
        ScriptedRegistry(users=USERS, auth="bearer", realm=f"{realm.address}/token") as demo,
    ):
        registry = configured(demo.address, credentials=LOGIN)
        answer = await ask(client, registry)
        report = await client.ping(registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert answer.detail == (
        f"the login was not sent to the token realm {realm.address}, plain http on another host"
    )
    assert report.detail == answer.detail
    assert (report.ok, report.login) == (False, "unknown")
    assert [scheme for _, scheme in wire(realm)] == [""]


async def test_an_identity_token_is_not_sent_to_a_plain_http_realm_on_another_host(
    client: RegistryClient,
) -> None:
    """Nor is a refresh token, which is as good as a password."""
    async with (
        ScriptedRegistry("127.0.0.2", auth="bearer") as realm,
        ScriptedRegistry(auth="bearer", realm=f"{realm.address}/token") as demo,
    ):
        registry = configured(demo.address, credentials=Credentials("", "", "id-token"))
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert [request.method for request in realm.requests] == ["GET"]
    assert b"id-token" not in b"".join(request.body for request in realm.requests)


async def test_password_is_not_sent_to_a_plain_http_realm_of_an_https_registry(
    client: RegistryClient, ca: PrivateCA
) -> None:
    """Even on the registry's own host: the password would leave TLS."""
    tls = ca.issue("127.0.0.1").context()
    async with (
        ScriptedRegistry(users=USERS, auth="bearer") as realm,
        ScriptedRegistry(
            users=USERS, auth="bearer", tls=tls, realm=f"{realm.address}/token"
        ) as demo,
    ):
        registry = configured(demo.address, credentials=LOGIN, ca_file=ca.ca_file)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "while the registry speaks https" in answer.detail
    assert [scheme for _, scheme in wire(realm)] == [""]


async def test_password_goes_to_an_https_realm_on_another_host(
    client: RegistryClient, ca: PrivateCA
) -> None:
    """As with Docker Hub; the certificate is verified with the registry's CA."""
    tls = ca.issue("127.0.0.2").context()
    async with (
        ScriptedRegistry("127.0.0.2", users=USERS, auth="bearer", tls=tls) as realm,
        ScriptedRegistry(auth="bearer", realm=f"{realm.address}/token") as demo,
    ):
        registry = configured(demo.address, credentials=LOGIN, ca_file=ca.ca_file)
        await ask(client, registry)
    assert wire(realm) == [(f"GET /token?{SCOPE}", "basic")]


async def test_password_is_not_sent_to_an_https_realm_with_a_bad_certificate(
    client: RegistryClient, ca: PrivateCA
) -> None:
    """A certificate for another name ends it."""
    tls = ca.issue("realm.example").context()
    async with (
        ScriptedRegistry("127.0.0.2", users=USERS, auth="bearer", tls=tls) as realm,
        ScriptedRegistry(auth="bearer", realm=f"{realm.address}/token") as demo,
    ):
        registry = configured(demo.address, credentials=LOGIN, ca_file=ca.ca_file)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNREACHABLE
    assert "is for another name" in answer.detail
    assert realm.requests == []


async def test_password_does_not_follow_a_redirect_of_the_token_realm(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """A realm that points elsewhere is an error, not a token."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        moved = Response(307, {"Location": f"{other.address}/token"})
        demo.faults.respond.append((lambda request: request.path == "/token", moved))
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert other.address in answer.detail
    assert other.requests == []


@pytest.mark.parametrize(
    "realm", ["ftp://x/token", "token", "http://[", "https://", "http://u:S3cr3t/x@hub/"]
)
async def test_a_realm_that_is_no_url(
    client: RegistryClient, other: ScriptedRegistry, realm: str
) -> None:
    """Unauthorized, and nothing is asked anywhere."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    other.faults.respond.append((manifests, Response(401, challenge)))
    answer = await ask(client, configured(other.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "token realm" in answer.detail
    assert "S3cr3t" not in answer.detail
