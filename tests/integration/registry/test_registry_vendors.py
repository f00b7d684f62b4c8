"""Registries that cannot be had here, answering as their code and their users' reports have it."""

from __future__ import annotations

import pytest

from shimcore.config import Credentials, Registry
from shimcore.registry.answers import ManifestAnswer, Outcome, RegistryState
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import USERS, manifests, wire
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_http import Request, Response
from tests.support.scripted_registry import ScriptedRegistry, refusal

WRONG = Credentials("admin", "wrong")
PAGE = {"Content-Type": "text/html; charset=utf-8"}


async def ask(client: RegistryClient, registry: Registry, path: str) -> ManifestAnswer:
    return await client.head_manifest(registry, candidate(registry, path))


def state(client: RegistryClient, registry: Registry) -> RegistryState:
    return client.health()[registry.host].state


class Harbor(ScriptedRegistry):
    """Whose login may read the project `library`; `secret` it may not, and no other is there."""

    def __init__(self, users: dict[str, str] = USERS) -> None:
        super().__init__(users=users, auth="bearer", anonymous_tokens=True)
        self.add_image("library/nginx", "latest")

    def _answer(self, request: Request) -> Response:
        project, _, name = request.path.removeprefix("/v2/").partition("/")
        if request.path == "/token" and "%2F" not in request.target and "scope=" in request.target:
            return refusal(500, "UNKNOWN")  # no repository can be read from the scope
        if request.path == "/token":
            return self._issue(request)
        if manifests(request) and name.startswith("manifests/"):
            return refusal(400, "BAD_REQUEST")
        if request.path == "/v2/library/cve/manifests/latest" and request.auth_scheme:
            return refusal(412, "PROJECTPOLICYVIOLATION")
        if project in ("library", "", "v2"):
            return super()._answer(request)
        if not request.auth_scheme:
            return super()._answer(request)
        headers = {"WWW-Authenticate": 'Basic realm="harbor"' if project == "secret" else ""}
        return refusal(401, "UNAUTHORIZED", headers)

    def _issue(self, request: Request) -> Response:
        """To a wrong password a token that is worth nothing, but for no scope none."""
        issued = self._token(request)
        if issued.status != 401 or "scope=" not in request.target:
            return issued
        return Response(200, {"Content-Type": "application/json"}, b'{"token": "nobodys"}')


@pytest.mark.parametrize("path", ["secret/app", "nosuch/app"])
async def test_harbor_an_image_that_the_login_may_not_read(
    client: RegistryClient, path: str
) -> None:
    """It asks whoever has a token for a password, or for nothing: the login is as good as before.

    And the password is not what later questions go with.
    """
    async with Harbor() as harbor:
        registry = configured(harbor.address, credentials=LOGIN)
        assert (await ask(client, registry, "library/nginx")).outcome is Outcome.FOUND
        for _ in range(2):
            answer = await ask(client, registry, path)
            assert answer.outcome is Outcome.UNAUTHORIZED
            reason = "the login may not read this, or there is no such repository (401)"
            assert answer.detail == reason
            assert state(client, registry) is RegistryState.IN_USE
        assert (await ask(client, registry, "library/nginx")).outcome is Outcome.FOUND
    assert wire(harbor)[-1][1] == "bearer"


async def test_harbor_a_wrong_password(client: RegistryClient) -> None:
    """It hands out a token all the same; the ping, whose token has no scope, tells."""
    async with Harbor() as harbor:
        registry = configured(harbor.address, credentials=WRONG)
        assert (await ask(client, registry, "secret/app")).outcome is Outcome.UNAUTHORIZED
        report = await client.ping(registry)
        assert (report.ok, report.login) == (False, "refused")
        assert state(client, registry) is RegistryState.LOGIN_REFUSED


async def test_harbor_a_name_without_a_project(client: RegistryClient) -> None:
    """Such as `pause`: it has none, and its token realm fails over it."""
    async with Harbor() as harbor:
        registry = configured(harbor.address, credentials=LOGIN)
        for _ in range(2):
            answer = await ask(client, registry, "pause")
            assert (answer.outcome, "BAD_REQUEST" in answer.detail) == (Outcome.ABSENT, True)
            assert (await ask(client, registry, "library/nginx")).outcome is Outcome.FOUND
        assert state(client, registry) is RegistryState.IN_USE


async def test_a_bad_request_about_another_name_is_no_absence(
    client: RegistryClient, other: ScriptedRegistry
) -> None:
    """What it was is not known."""
    other.faults.respond.append((manifests, refusal(400, "BAD_REQUEST")))
    answer = await ask(client, configured(other.address), "library/nginx")
    assert answer.outcome is Outcome.UNREACHABLE


async def test_harbor_an_image_that_a_policy_keeps_back(client: RegistryClient) -> None:
    """Neither absent nor a fault of the registry; the reason is fetched, as HEAD has none."""
    async with Harbor() as harbor:
        registry = configured(harbor.address, credentials=LOGIN)
        await ask(client, registry, "library/nginx")
        answer = await ask(client, registry, "library/cve")
        assert answer.outcome is Outcome.UNAUTHORIZED
        assert "412 PROJECTPOLICYVIOLATION" in answer.detail
        assert state(client, registry) is RegistryState.IN_USE


async def test_images_that_are_slow_to_come_from_elsewhere(demo: ScriptedRegistry) -> None:
    """A cache whose source does not answer: the next image, which it has, is asked for at once."""
    client = RegistryClient([], probe_timeout_s=1.5)
    demo.add_image("team/app", "latest")
    demo.faults.hang = lambda request: "/proxied/" in request.path
    registry = configured(demo.address)
    await ask(client, registry, "team/app")
    for path in ("proxied/a", "proxied/b"):
        assert (await ask(client, registry, path)).outcome is Outcome.UNREACHABLE
    assert (await ask(client, registry, "team/app")).outcome is Outcome.FOUND
    await client.aclose()


async def test_a_web_page_is_no_manifest(client: RegistryClient, demo: ScriptedRegistry) -> None:
    """Of a portal, a single sign-on, or another server on that port."""
    page = Response(200, PAGE, b"\n<!DOCTYPE html><html>Sign in</html>")
    demo.faults.respond.append((lambda _: True, page))
    registry = configured(demo.address)
    answer = await ask(client, registry, "library/nginx")
    assert (answer.outcome, answer.digest) == (Outcome.UNREACHABLE, None)
    assert "a web page (200)" in answer.detail
    report = await client.ping(registry)
    assert (report.reachable, report.ok) == (True, False)
    assert report.detail == answer.detail


async def test_a_word_that_is_called_a_page(client: RegistryClient, demo: ScriptedRegistry) -> None:
    """As Quay answers `GET /v2/`."""
    demo.faults.respond.append(
        (lambda request: request.path == "/v2/", Response(200, PAGE, b"true"))
    )
    assert (await client.ping(configured(demo.address))).ok


async def test_a_login_that_is_asked_for_with_the_first_image(
    client: RegistryClient, demo: ScriptedRegistry
) -> None:
    """A ping has no part in it: it says so, and what is known of the login stays."""
    demo.faults.respond.append(
        (manifests, Response(401, {"WWW-Authenticate": 'Basic realm="all but /v2/"'}))
    )
    registry = configured(demo.address, credentials=WRONG)
    first = await client.ping(registry)
    assert (first.ok, first.login) == (True, "not needed")
    assert "the login was not tried" in first.detail
    assert state(client, registry) is RegistryState.IN_USE
    await ask(client, registry, "library/nginx")
    await client.ping(registry)
    assert state(client, registry) is RegistryState.LOGIN_REFUSED


async def test_a_login_that_has_expired(client: RegistryClient) -> None:
    """ECR's, after twelve hours, is refused with 403; a question may be for one image alone."""
    async with ScriptedRegistry(users=USERS, auth="basic") as ecr:
        ecr.add_image("team/app", "latest")
        registry = configured(ecr.address, credentials=LOGIN)
        assert (await ask(client, registry, "team/app")).outcome is Outcome.FOUND
        ecr.faults.respond.append((lambda request: bool(request.auth_scheme), Response(403)))
        answer = await ask(client, registry, "team/app")
        assert answer.detail == "the login may not read this, or has expired (403)"
        assert state(client, registry) is RegistryState.IN_USE
        report = await client.ping(registry)
        assert (report.ok, report.login, report.detail) == (False, "refused", answer.detail)
        assert state(client, registry) is RegistryState.LOGIN_REFUSED


@pytest.mark.parametrize(
    ("status", "outcome"), [(403, Outcome.UNAUTHORIZED), (404, Outcome.UNREACHABLE)]
)
async def test_what_a_proxy_says_is_not_the_registrys_word(
    client: RegistryClient,
    demo: ScriptedRegistry,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    outcome: Outcome,
) -> None:
    """Over plain http its page comes in the place of an answer: it is named, and nothing kept."""
    demo.faults.respond.append((lambda _: True, Response(status, PAGE, b"<html>denied</html>")))
    monkeypatch.setenv("HTTP_PROXY", demo.address)
    monkeypatch.setenv("NO_PROXY", "")
    registry = configured("http://hub.invalid:5000", credentials=LOGIN)
    answer = await ask(client, registry, "library/nginx")
    assert answer.outcome is outcome
    named = f"by way of the proxy {demo.host} (NO_PROXY leaves it out)"
    assert named in answer.detail
    assert named in (await client.ping(registry)).detail


async def test_a_realm_that_fails(client: RegistryClient) -> None:
    """It may for one scope alone: the registry is asked without a login, and that is all."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        demo.add_image("team/app", "latest")
        demo.add_image("team/other", "latest")
        registry = configured(demo.address, credentials=LOGIN)
        await ask(client, registry, "team/app")
        demo.faults.respond.append((lambda request: request.path == "/token", Response(503)))
        asked = len(demo.requests)
        answer = await ask(client, registry, "team/other")
        assert "the token realm" in answer.detail
        assert answer.outcome is Outcome.UNREACHABLE
        told = [request.path for request in demo.requests[asked:]]
        assert told == ["/token", "/v2/team/other/manifests/latest", "/token"]
