"""Tokens: asked for, kept, replaced."""

from __future__ import annotations

import asyncio

import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import MANIFEST, SCOPE, USERS, ask, manifests, wire
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry, parameters


async def test_bearer_asks_for_a_token_with_service_and_scope(client: RegistryClient) -> None:
    """Basic goes to the token endpoint, Bearer to the registry; the token is used again."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        digest = demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        assert (await ask(client, registry)).digest == digest
        assert (await ask(client, registry, "v2")).outcome is Outcome.ABSENT
    assert wire(demo) == [
        (f"HEAD {MANIFEST}", ""),
        (f"GET /token?{SCOPE}", "basic"),
        (f"HEAD {MANIFEST}", "bearer"),
        ("HEAD /v2/library/nginx/manifests/v2", "bearer"),
    ]


async def test_each_repository_has_its_own_token(client: RegistryClient) -> None:
    """A token is for one scope; the challenge is known by then."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.add_image("a", "latest")
        demo.add_image("b", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        for path in ("a", "b", "a"):
            answer = await client.head_manifest(registry, candidate(registry, path))
            assert answer.outcome is Outcome.FOUND
    assert len([line for line, _ in wire(demo) if "token" in line]) == 2
    assert len(demo.requests) == 1 + 2 + 3


async def test_an_anonymous_token_is_asked_for_without_a_login(client: RegistryClient) -> None:
    """Public registries give tokens to everybody."""
    async with ScriptedRegistry(auth="bearer", anonymous_tokens=True) as demo:
        demo.add_image("library/nginx", "latest")
        assert (await ask(client, configured(demo.address))).outcome is Outcome.FOUND
    assert wire(demo)[1] == (f"GET /token?{SCOPE}", "")


async def test_an_expired_token_is_asked_for_anew(client: RegistryClient) -> None:
    """Before the registry has to refuse it."""
    async with ScriptedRegistry(users=USERS, auth="bearer", token_lifetime_s=1) as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        await ask(client, registry)
        await asyncio.sleep(1.05)
        assert (await ask(client, registry)).outcome is Outcome.FOUND
    assert [scheme for _, scheme in wire(demo)] == ["", "basic", "bearer", "basic", "bearer"]


async def test_a_revoked_token_is_replaced_once(client: RegistryClient) -> None:
    """A 401 with a token from the cache gets a new one; a 401 with a new one is the answer."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        await ask(client, registry)
        demo.revoke_tokens()
        assert (await ask(client, registry)).outcome is Outcome.FOUND
        assert len(demo.requests) == 3 + 3
        refusal = Response(401, {"WWW-Authenticate": f'Bearer realm="{demo.address}/token"'})
        demo.faults.respond.append((manifests, refusal))
        assert (await ask(client, registry)).outcome is Outcome.UNAUTHORIZED
        assert [scheme for _, scheme in wire(demo)][6:] == ["bearer", "basic", "bearer"]


async def test_a_new_token_that_is_refused_is_not_asked_for_again(client: RegistryClient) -> None:
    """Though the challenge names another repository than the one that was remembered."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        await ask(client, registry)
        challenge = f'Bearer realm="{demo.address}/token",service="demo-registry",error="denied"'
        refusal = Response(401, {"WWW-Authenticate": challenge})
        demo.faults.respond.append((lambda request: "/private/" in request.path, refusal))
        answer = await client.head_manifest(registry, candidate(registry, "private/app"))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert [scheme for _, scheme in wire(demo)][3:] == ["basic", "bearer"]


async def test_a_realm_that_moved_is_learned_anew(client: RegistryClient) -> None:
    """A token realm that is gone costs one question; the next asks the registry again."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.add_image("library/nginx", "latest")
        demo.add_image("another", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        demo.realm = f"{demo.address}/token?old"
        assert (await ask(client, registry)).outcome is Outcome.FOUND
        gone = (lambda request: request.target.startswith("/token?old"), Response(404))
        demo.faults.respond.append(gone)
        demo.realm = ""
        another = candidate(registry, "another")
        outcomes = [(await client.head_manifest(registry, another)).outcome for _ in range(2)]
    assert outcomes == [Outcome.UNAUTHORIZED, Outcome.FOUND]


async def test_an_identity_token_is_sent_as_a_refresh_token(client: RegistryClient) -> None:
    """POST with grant_type=refresh_token; the answer's access_token is the Bearer token."""
    async with ScriptedRegistry(auth="bearer") as demo:
        demo.add_image("library/nginx", "latest")
        demo.identity_tokens["id-token"] = "admin"
        registry = configured(demo.address, credentials=Credentials("", "", "id-token"))
        assert (await ask(client, registry)).outcome is Outcome.FOUND
    posted = demo.requests[1]
    assert (posted.method, posted.target, posted.auth_scheme) == ("POST", "/token", "")
    assert parameters(posted.body.decode()) == {
        "grant_type": "refresh_token",
        "service": "demo-registry",
        "client_id": "image-cri-shim",
        "scope": "repository:library/nginx:pull",
        "refresh_token": "id-token",
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[]", 200), (b"{", 200), (b'{"token": "a b"}', 200), (b"{}", 200), (b"", 500)],
)
async def test_a_token_endpoint_that_talks_nonsense(
    client: RegistryClient, body: bytes, status: int
) -> None:
    """Could not tell; and nothing of the body is repeated."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.faults.respond.append(
            (lambda request: request.path == "/token", Response(status, body=body))
        )
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "token realm" in answer.detail


@pytest.mark.parametrize(("size_kib", "words"), [(65, "a token of 65 KiB"), (200, "more than")])
async def test_a_token_that_is_too_large_is_refused(
    client: RegistryClient, size_kib: int, words: str
) -> None:
    """In words; tokens of 150 repositories are kept, and sent with every question."""
    body = b'{"token": "%s"}' % (b"t" * size_kib * 1024)
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.faults.respond.append(
            (lambda request: request.path == "/token", Response(200, body=body))
        )
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNREACHABLE
    assert words in answer.detail
