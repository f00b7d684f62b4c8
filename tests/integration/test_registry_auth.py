"""Logging in, and who gets to see a password."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shimcore.config import Credentials, Registry
from shimcore.demo.registry_http import Request, Response
from shimcore.registry.answers import ManifestAnswer, Outcome
from shimcore.registry.client import RegistryClient
from tests.support.registries import LOGIN, candidate, configured
from tests.support.scripted_registry import ScriptedRegistry, parameters
from tests.support.tls import PrivateCA

USERS = {LOGIN.username: LOGIN.password}
WRONG = Credentials("admin", "wrong")
MANIFEST = "/v2/library/nginx/manifests/latest"
SCOPE = "service=demo-registry&scope=repository%3Alibrary%2Fnginx%3Apull"


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    client = RegistryClient([], probe_timeout_s=10.0)
    yield client
    await client.aclose()


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRegistry]:
    """Another host, as far as an origin goes; it would take any credentials."""
    async with ScriptedRegistry() as registry:
        registry.add_image("library/nginx", "latest", b"other")
        yield registry


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCA:
    return PrivateCA(tmp_path)


def wire(demo: ScriptedRegistry) -> list[tuple[str, str]]:
    """Return each request with the scheme of its Authorization."""
    return [
        (f"{request.method} {request.target}", request.auth_scheme) for request in demo.requests
    ]


def is_manifest(request: Request) -> bool:
    return "/manifests/" in request.path


def manifests(request: Request) -> bool:
    return is_manifest(request)


async def ask(client: RegistryClient, registry: Registry, tag: str = "latest") -> ManifestAnswer:
    return await client.head_manifest(registry, candidate(registry, tag=tag))


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
async def test_wrong_password_is_unauthorized(client: RegistryClient, auth: str) -> None:
    """And is not tried over and over for one question."""
    async with ScriptedRegistry(users=USERS, auth="basic" if auth == "basic" else "bearer") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=WRONG)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "refused" in answer.detail
    assert "wrong" not in answer.detail
    assert [scheme for _, scheme in wire(demo)].count("basic") == 1


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_no_login_configured_says_so(client: RegistryClient, auth: str) -> None:
    """The detail names what is missing."""
    async with ScriptedRegistry(users=USERS, auth="basic" if auth == "basic" else "bearer") as demo:
        registry = configured(demo.address)
        answer = await ask(client, registry)
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "no login is configured" in answer.detail or "none is configured" in answer.detail


async def test_403_is_unauthorized(client: RegistryClient, other: ScriptedRegistry) -> None:
    """A login that may not read this repository."""
    other.faults.respond.append((manifests, Response(403)))
    answer = await ask(client, configured(other.address, credentials=LOGIN))
    assert answer.outcome is Outcome.UNAUTHORIZED
    assert "403" in answer.detail


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
        registry = configured(demo.address, credentials=LOGIN)
        demo.realm = f"{demo.address}/token?old"
        await ask(client, registry)
        demo.revoke_tokens()
        gone = (lambda request: request.target.startswith("/token?old"), Response(404))
        demo.faults.respond.append(gone)
        demo.realm = ""
        outcomes = [(await ask(client, registry, tag)).outcome for tag in ("latest", "latest")]
        assert outcomes[-1] is Outcome.FOUND


async def test_a_login_that_is_no_longer_asked_for(client: RegistryClient) -> None:
    """A registry that wanted a login, which was never configured, and then does not."""
    async with ScriptedRegistry(auth="basic") as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address)
        assert (await ask(client, registry)).outcome is Outcome.UNAUTHORIZED
        demo.faults.respond.append((manifests, Response(404)))
        assert (await ask(client, registry)).outcome is Outcome.ABSENT


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


async def test_bearer_is_preferred_where_both_are_offered(client: RegistryClient) -> None:
    """A password that need not be sent with every question is not."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        both = f'Basic realm="x", Bearer realm="{demo.address}/token", Negotiate'
        demo.faults.respond.append(
            (
                lambda request: is_manifest(request) and not request.auth_scheme,
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
        assert host.partition("@")[2] or host in answer.detail
        assert "S3cr3t" not in answer.detail
    assert caplog.records == []


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


async def test_cookies_are_not_kept(client: RegistryClient, other: ScriptedRegistry) -> None:
    """A registry cannot mark the node."""
    other.faults.respond.append((manifests, Response(404, {"Set-Cookie": "sid=1; Path=/"})))
    registry = configured(other.address)
    for tag in ("a", "b"):
        await ask(client, registry, tag)
    assert all("cookie" not in request.headers for request in other.requests)


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
