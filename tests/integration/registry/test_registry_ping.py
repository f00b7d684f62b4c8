"""`ping`: reachable, TLS, scheme, login."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from typing import Literal

import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome, TlsReport
from shimcore.registry.client import RegistryClient
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA

USERS = {LOGIN.username: LOGIN.password}
WRONG = Credentials("admin", "wrong")


@pytest.mark.parametrize(
    ("auth", "credentials", "anonymous", "ok", "login"),
    [
        ("none", None, False, True, "not needed"),
        ("none", LOGIN, False, True, "not needed"),
        ("basic", LOGIN, False, True, "accepted"),
        ("basic", WRONG, False, False, "refused"),
        ("basic", None, False, False, "not configured"),
        ("bearer", LOGIN, False, True, "accepted"),
        ("bearer", WRONG, False, False, "refused"),
        ("bearer", None, True, True, "not configured"),
        ("bearer", None, False, True, "not configured"),
    ],
)
async def test_login(
    client: RegistryClient,
    auth: Literal["none", "basic", "bearer"],
    credentials: Credentials | None,
    anonymous: bool,
    ok: bool,
    login: str,
) -> None:
    """The login is really tried; only Bearer registries may be of use without one."""
    async with ScriptedRegistry(users=USERS, auth=auth, anonymous_tokens=anonymous) as demo:
        report = await client.ping(configured(demo.address, credentials=credentials))
    assert (report.reachable, report.ok, report.auth_scheme) == (True, ok, auth)
    assert report.login == login
    assert report.tls is None
    assert report.elapsed_s > 0
    assert ok or report.detail


async def test_a_ping_is_never_answered_from_memory(client: RegistryClient) -> None:
    """A password that was changed is refused at once, though a token of it is still good."""
    async with ScriptedRegistry(users=USERS, auth="bearer") as demo:
        registry = configured(demo.address, credentials=LOGIN)
        assert (await client.ping(registry)).login == "accepted"
        demo.faults.respond.append((lambda request: request.path == "/token", Response(401)))
        assert (await client.ping(registry)).login == "refused"


@pytest.mark.parametrize(
    ("status", "words"), [(404, "not a container registry"), (503, "503"), (200, "")]
)
async def test_other_answers(client: RegistryClient, status: int, words: str) -> None:
    """Reachable, but not well."""
    async with ScriptedRegistry() as demo:
        demo.faults.respond.append((lambda _: True, Response(status)))
        report = await client.ping(configured(demo.address))
    assert report.reachable
    assert report.ok is (status == 200)
    assert words in report.detail


async def test_nobody_there(client: RegistryClient) -> None:
    """Not reachable; the breaker learns it."""
    demo = ScriptedRegistry()
    await demo.start()
    await demo.stop()
    registry = configured(demo.address)
    report = await client.ping(registry)
    assert (report.reachable, report.ok, report.login) == (False, False, "unknown")
    assert "refused the connection" in report.detail
    assert client.states() == {registry.host: "open"}


async def test_private_ca(client: RegistryClient, ca: PrivateCA) -> None:
    """A registry whose CA is configured is verified, and its certificate described."""
    tls = ca.issue("127.0.0.1", common_name="sealos.hub").context()
    async with ScriptedRegistry(users=USERS, auth="basic", tls=tls) as demo:
        demo.add_image("library/nginx", "latest")
        registry = configured(demo.address, credentials=LOGIN, ca_file=ca.ca_file)
        report = await client.ping(registry)
        answer = await client.head_manifest(registry, candidate(registry))
    assert (report.ok, report.login) == (True, "accepted")
    assert report.tls == TlsReport(
        version="TLSv1.3",
        issuer="O=Example, CN=Demo CA",
        subject="O=Example, CN=sealos.hub",
        days_left=89,
        verified=True,
    )
    assert answer.outcome is Outcome.FOUND


@pytest.mark.parametrize(
    ("days_left", "address", "trusted", "words"),
    [
        (-3, "127.0.0.1", True, "has expired"),
        (90, "hub.example", True, "is for another name"),
        (90, "127.0.0.1", False, "is not trusted"),
    ],
)
async def test_a_certificate_that_does_not_hold_is_refused_and_shown(
    client: RegistryClient, ca: PrivateCA, days_left: int, address: str, trusted: bool, words: str
) -> None:
    """Expired, for another name, or of an unknown CA: not ok, with the facts of the certificate."""
    tls = ca.issue(address, days_left=days_left).context()
    async with ScriptedRegistry(tls=tls) as demo:
        registry = configured(demo.address, ca_file=ca.ca_file if trusted else None)
        report = await client.ping(registry)
        answer = await client.head_manifest(registry, candidate(registry))
    assert (report.reachable, report.ok) == (True, False)
    assert words in report.detail
    assert report.tls is not None
    assert (report.tls.issuer, report.tls.verified) == ("O=Example, CN=Demo CA", False)
    assert report.tls.days_left == days_left - 1
    assert report.tls.wrong_name is ("another name" in words)
    assert answer.outcome is Outcome.UNREACHABLE
    assert words in answer.detail


async def test_insecure_skip_verify(client: RegistryClient, ca: PrivateCA) -> None:
    """Any certificate is taken, and the report does not call it verified."""
    tls = ca.issue("hub.example", days_left=-3).context()
    async with ScriptedRegistry(users=USERS, auth="basic", tls=tls) as demo:
        registry = configured(demo.address, credentials=LOGIN, insecure=True)
        report = await client.ping(registry)
    assert (report.ok, report.login) == (True, "accepted")
    assert report.tls is not None
    assert (report.tls.verified, report.tls.days_left) == (False, -4)


async def test_https_address_of_a_plain_registry(client: RegistryClient) -> None:
    """The commonest mistake names its remedy."""
    async with ScriptedRegistry() as demo:
        report = await client.ping(configured(demo.address.replace("http:", "https:")))
    assert not report.ok
    assert "write http:// in its address" in report.detail


async def test_plain_address_of_a_tls_registry(client: RegistryClient, ca: PrivateCA) -> None:
    """And the other way round there is at least an answer that could not tell."""
    async with ScriptedRegistry(tls=ca.issue("127.0.0.1").context()) as demo:
        report = await client.ping(configured(demo.address.replace("https:", "http:")))
    assert not report.ok
    assert report.detail


async def test_an_old_tls_version_is_refused(client: RegistryClient, ca: PrivateCA) -> None:
    """Nothing below TLS 1.2; what was negotiated is reported."""
    context = ca.issue("127.0.0.1").context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with ScriptedRegistry(tls=context) as demo:
        report = await client.ping(configured(demo.address, ca_file=ca.ca_file))
    assert report.tls is not None
    assert report.tls.version == "TLSv1.2"


async def test_questions_go_through_the_environments_proxy(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containerd's do; the demo registry stands in for a proxy, which sees the absolute URL."""
    async with ScriptedRegistry() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        registry = configured("http://hub.invalid:5000")
        await client.head_manifest(registry, candidate(registry))
    assert [request.target for request in proxy.requests] == [
        "http://hub.invalid:5000/v2/library/nginx/manifests/latest"
    ]


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://us3r:S3cr3t/r3st@proxy.invalid:3128", "S_PROXY cannot be used: it is not http://"),
        ("http://us3r:S3cr3t@127.0.0.1:99999", "S_PROXY cannot be used: its port"),
        ("http://us3r:S3cr3t@127.0.0.1:1", "the proxy 127.0.0.1:1 refused the connection"),
        ("http://us3r:S3cr3t@proxy.invalid", "the name in the proxy proxy.invalid:80 cannot be"),
    ],
)
async def test_a_proxys_password_is_in_no_text(
    client: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    proxy: str,
    words: str,
) -> None:
    """Whatever is wrong with the proxy, it is said without any part of its login."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    registry = configured("https://hub.example:5000")
    answer = await client.head_manifest(registry, candidate(registry))
    report = await client.ping(registry)
    health = client.health()[registry.host]
    for detail in (answer.detail, report.detail, health.reason):
        assert words in detail
    said = f"{answer!r} {report!r} {health!r} {caplog.text}"
    assert not [secret for secret in ("us3r", "S3cr3t", "r3st") if secret in said]


async def test_a_proxy_that_wants_a_login(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by its status; what else the proxy says may be what it was sent."""
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 not us3r:S3cr3t\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://us3r:S3cr3t@127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    registry = configured("https://hub.example:5000")
    answer = await client.head_manifest(registry, candidate(registry))
    server.close()
    await server.wait_closed()
    assert asked[0].startswith(b"CONNECT hub.example:5000 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXMzcjpTM2NyM3Q=" in asked[0]
    assert answer.detail == (
        f"the proxy 127.0.0.1:{port} did not let the connection through (407): it wants a login, "
        "http://user:password@host:port"
    )


async def test_tls_through_a_proxy(
    client: RegistryClient, ca: PrivateCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONNECT, then the registry's own TLS: nothing of the bounds stands in its way."""

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        inward, outward = await asyncio.open_connection(*demo.host.split(":"))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, outward), copy(inward, writer))

    async with ScriptedRegistry(tls=ca.issue("hub.example").context()) as demo:
        server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        registry = configured("https://hub.example", ca_file=ca.ca_file)
        report = await client.ping(registry)
        await client.aclose()
        server.close()
        await server.wait_closed()
    assert report.ok, report
    assert report.tls is not None
    assert report.tls.verified


def test_the_values_can_be_had_without_an_http_library() -> None:
    """Importing the package costs no HTTP library; the command line starts the faster for it."""
    code = "import sys, shimcore.registry; print('httpx' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert run.stdout.strip() == "False"


async def test_a_handshake_that_never_ends_leaves_no_open_socket() -> None:
    """A port that takes connections and says nothing: named as such, and the socket is closed."""
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RegistryClient([], probe_timeout_s=1.0)
    registry = configured(f"https://127.0.0.1:{port}")
    answer = await client.head_manifest(registry, candidate(registry))
    assert "TLS handshake" in answer.detail
    await asyncio.wait_for(ended.wait(), 10)
    await client.aclose()
    server.close()
    await server.wait_closed()
