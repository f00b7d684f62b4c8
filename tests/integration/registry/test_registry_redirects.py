"""Redirects: where credentials do not follow, and where nobody does."""

from __future__ import annotations

import pytest

from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import MANIFEST, USERS, ask, manifests, wire
from tests.support.registries import LOGIN, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry


# --- threats -----------------------------------------------------------------------------------
async def test_credentials_do_not_follow_a_redirect_to_another_host(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """Basic credentials stay; the redirect itself is followed without them."""
    async with ScriptedRegistry(users=USERS, auth="basic") as demo:
        moved = Response(307, {"Location": other.address + MANIFEST})
        demo.faults.respond.append((lambda request: request.user == LOGIN.username, moved))
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.FOUND
    assert [scheme for _, scheme in wire(demo)] == ["", "basic"]
    assert wire(other) == [(f"HEAD {MANIFEST}", "")]


async def test_a_bearer_token_does_not_follow_a_redirect_to_another_host(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """Nor do tokens."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        moved = Response(302, {"Location": other.address + MANIFEST})
        demo.faults.respond.append((lambda request: request.auth_scheme == "bearer", moved))
        await ask(client, configured(demo.address, credentials=LOGIN))
    assert wire(other) == [(f"HEAD {MANIFEST}", "")]


async def test_credentials_do_not_come_back_after_a_detour(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """There and back again: the last hop goes without, since another host chose its URL."""
    async with ScriptedRegistry(users=USERS, auth="basic") as demo:
        back = Response(307, {"Location": demo.address + "/v2/secret/manifests/latest"})
        other.faults.respond.append((manifests, back))
        away = Response(307, {"Location": other.address + MANIFEST})
        demo.faults.respond.append((lambda request: request.user == LOGIN.username, away))
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert wire(demo)[-1] == ("HEAD /v2/secret/manifests/latest", "")


async def test_a_challenge_from_another_host_is_not_answered(client: RegistryClient) -> None:
    """A registry that redirects to one asking for a password does not get ours sent there."""
    async with (
        ScriptedRegistry(users=USERS, auth="basic") as stranger,
        ScriptedRegistry() as demo,
    ):
        moved = Response(307, {"Location": stranger.address + MANIFEST})
        demo.faults.respond.append((manifests, moved))
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert stranger.address in answer.detail
    assert [scheme for _, scheme in wire(stranger)] == [""]


async def test_a_name_and_password_in_a_redirect_are_not_sent(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """Nobody can make us log in somewhere under their account."""
    async with ScriptedRegistry() as demo:
        location = other.address.replace("http://", "http://user:pass@") + MANIFEST
        demo.faults.respond.append((manifests, Response(307, {"Location": location})))
        await ask(client, configured(demo.address, credentials=LOGIN))
    assert wire(other) == [(f"HEAD {MANIFEST}", "")]


async def test_credentials_follow_a_redirect_within_the_registry(client: RegistryClient) -> None:
    """The same scheme, host and port are the same registry."""
    async with ScriptedRegistry(users=USERS, auth="basic") as demo:
        demo.add_image("moved/nginx", "latest")
        moved = Response(308, {"Location": "/v2/moved/nginx/manifests/latest"})
        demo.faults.respond.append((lambda request: "/library/" in request.path, moved))
        answer = await ask(client, configured(demo.address, credentials=LOGIN))
    assert answer.outcome is Outcome.FOUND
    assert wire(demo)[-1] == ("HEAD /v2/moved/nginx/manifests/latest", "basic")


async def test_redirects_end(client: RegistryClient, other: ScriptedRegistry) -> None:
    """A loop is given up after five."""
    other.faults.respond.append((manifests, Response(307, {"Location": MANIFEST})))
    answer = await ask(client, configured(other.address))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "redirects" in answer.detail
    assert len(other.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        "ftp://x/y",
        "file:///etc/passwd",
        "http://[",
        "https://",
        "http://hub:99999/",
        "http://hub:0/",
        "http://user:S3cr3t/rest@hub/",
        "http://a b/",
        "/" + "x" * 9000,
    ],
)
async def test_a_redirect_to_nowhere(
    client: RegistryClient, other: ScriptedRegistry, location: str
) -> None:
    """Only http and https URLs are followed; no part of another is repeated."""
    other.faults.respond.append((manifests, Response(307, {"Location": location})))
    answer = await ask(client, configured(other.address))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "redirect" in answer.detail
    assert "S3cr3t" not in answer.detail
    assert client.states() == {other.host: "closed"}


@pytest.mark.parametrize("host", ["xn--a", "xn--a.invalid", "a..b", "user:S3cr3t@x.invalid"])
async def test_a_redirect_to_a_name_that_is_none(
    client: RegistryClient,
    other: ScriptedRegistry,
    host: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line, no traceback; neither is it one as a token realm."""
    monkeypatch.setenv("NO_PROXY", "*")
    other.faults.respond.append((manifests, Response(307, {"Location": f"http://{host}/"})))
    redirected = await ask(client, configured(other.address))
    other.faults.respond.clear()
    challenge = {"WWW-Authenticate": f'Bearer realm="https://{host}/"'}
    other.faults.respond.append((manifests, Response(401, challenge)))
    challenged = await ask(client, configured(other.address, credentials=LOGIN))
    for answer in (redirected, challenged):
        assert answer.outcome is Outcome.UNREACHABLE
        assert (host.partition("@")[2] or host) in answer.detail
        assert "S3cr3t" not in answer.detail
    assert caplog.records == []
