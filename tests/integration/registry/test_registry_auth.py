"""Logging in: schemes, passwords, and who gets to see them."""

from __future__ import annotations

import asyncio
import ssl
from typing import Literal

import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import MANIFEST, USERS, ask, manifests, wire
from tests.support.registries import LOGIN, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA

WRONG = Credentials("admin", "wrong")


async def test_basic_login_answers_the_challenge_and_is_remembered(client: RegistryClient) -> None:
    """The first question learns the scheme; later ones are authenticated from the start."""
    async with ScriptedRegistry(users=USERS, auth="basic") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        for _ in range(2):
            assert (await ask(client, registry)).outcome is Outcome.FOUND
    assert wire(demo) == [
        (f"HEAD {MANIFEST}", ""),
        (f"HEAD {MANIFEST}", "basic"),
        (f"HEAD {MANIFEST}", "basic"),
    ]
    assert demo.requests[-1].basic == (LOGIN.username, LOGIN.password)


async def test_password_with_colons_and_letters_beyond_ascii(client: RegistryClient) -> None:
    """RFC 7617: UTF-8, split at the first colon."""
    async with ScriptedRegistry(users={"admin": "a:b:ü"}, auth="basic") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=Credentials("admin", "a:b:ü"))
        assert (await ask(client, registry)).outcome is Outcome.FOUND


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_wrong_password_is_unauthorized(
    client: RegistryClient, auth: Literal["basic", "bearer"]
) -> None:
    """And is not tried over and over for one question."""
    async with ScriptedRegistry(users=USERS, auth=auth) as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=WRONG)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "refused" in answer.detail
    assert "wrong" not in answer.detail
    assert [scheme for _, scheme in wire(demo)].count("basic") == 1


@pytest.mark.parametrize(
    ("auth", "words"),
    [("basic", "and none is configured"), ("bearer", "and no login is configured")],
)
async def test_no_login_configured_says_so(
    client: RegistryClient, auth: Literal["basic", "bearer"], words: str
) -> None:
    """The detail names what is missing."""
    async with ScriptedRegistry(users=USERS, auth=auth) as demo:
        registry = configured(demo.address)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert words in answer.detail


async def test_403_is_unauthorized(client: RegistryClient, other: ScriptedRegistry) -> None:
    """A login that may not read this repository."""
    other.faults.respond.append((manifests, Response(403)))
    answer = await ask(client, configured(other.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "403" in answer.detail


async def test_a_login_that_is_no_longer_asked_for(client: RegistryClient) -> None:
    """A registry that wanted a login, which was never configured, and then does not."""
    async with ScriptedRegistry(auth="basic") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address)
        assert (await ask(client, registry)).outcome is Outcome.UNAUTHORIZED
        demo.faults.respond.append((manifests, Response(404)))
        assert (await ask(client, registry)).outcome is Outcome.ABSENT


async def test_bearer_is_preferred_where_both_are_offered(client: RegistryClient) -> None:
    """A password that need not be sent with every question is not."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        both = f'Basic realm="x", Bearer realm="{demo.address}/token", Negotiate'
        demo.faults.respond.append(
            (
                lambda request: manifests(request) and not request.auth_scheme,
                Response(401, {"WWW-Authenticate": both}),
            )
        )
        demo.add_image("library/nginx", "latest")
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.FOUND
    assert wire(demo)[-1] == (f"HEAD {MANIFEST}", "bearer")


@pytest.mark.parametrize("header", [{"WWW-Authenticate": "Negotiate"}, {}])
async def test_a_scheme_we_do_not_speak(
    client: RegistryClient, other: ScriptedRegistry, header: dict[str, str]
) -> None:
    """No credentials are sent, and the scheme is named."""
    other.faults.respond.append((manifests, Response(401, header)))
    answer = await ask(client, configured(other.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert ("negotiate" in answer.detail) is bool(header)
    assert [scheme for _, scheme in wire(other)] == [""]


async def test_cookies_are_not_kept(client: RegistryClient, other: ScriptedRegistry) -> None:
    """A registry cannot mark the node."""
    other.faults.respond.append((manifests, Response(404, {"Set-Cookie": "sid=1; Path=/"})))
    registry = configured(other.address)
    for tag in ("a", "b"):
        await ask(client, registry, tag)
    assert ["cookie" in request.headers for request in other.requests] == [False, False]


async def test_one_registry_never_gets_anothers_login(client: RegistryClient) -> None:
    """Two registries, two logins, both in use at once."""
    async with (
        ScriptedRegistry(users={"a": "pa"}, auth="basic") as first,
        ScriptedRegistry(users={"b": "pb"}, auth="basic") as second,
    ):
        one = configured(first.address, credentials=Credentials("a", "pa"))
        two = configured(second.address, credentials=Credentials("b", "pb"))
        await asyncio.gather(*(ask(client, r, f"t{n}") for n in range(5) for r in (one, two)))
    assert {request.user for request in first.requests} == {"", "a"}
    assert {request.user for request in second.requests} == {"", "b"}


async def test_an_untrusted_registry_sees_no_credentials(
    client: RegistryClient, ca: PrivateCA
) -> None:
    """Neither a question nor a ping, with its second look at the certificate, sends any."""
    tls: ssl.SSLContext = ca.issue("127.0.0.1").context()
    async with ScriptedRegistry(users=USERS, auth="basic", tls=tls) as demo:
        registry = configured(demo.address, credentials=LOGIN)
        assert (await ask(client, registry)).outcome is Outcome.UNREACHABLE
        await client.ping(registry)
    assert [scheme for _, scheme in wire(demo)] == [""]
