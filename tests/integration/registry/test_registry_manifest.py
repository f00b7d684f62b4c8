"""Questions about manifests, over real connections to the demo registry."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome, RegistryState
from shimcore.registry.client import RegistryClient
from shimcore.registry.manifest import MANIFEST_LIMIT_BYTES
from tests.integration.registry.questions import always
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_http import Response
from tests.support.registry_puller import DOCKER_MANIFEST
from tests.support.scripted_registry import ScriptedRegistry

MANIFEST = "/v2/library/nginx/manifests/latest"


def lines(demo: ScriptedRegistry) -> list[str]:
    return [f"{request.method} {request.target}" for request in demo.requests]


async def test_found_with_its_digest_in_one_request(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """HEAD by tag, every manifest type accepted, no credentials where none are asked for."""
    digest = demo.add_image("library/nginx", "latest")
    registry = configured(demo.address, credentials=LOGIN)
    answer = await client.head_manifest(registry, candidate(registry))
    assert (answer.outcome, answer.digest, answer.detail) == (Outcome.FOUND, digest, "")
    assert 0 < answer.elapsed_s < 5
    assert lines(demo) == [f"HEAD {MANIFEST}"]
    (request,) = demo.requests
    assert "authorization" not in request.headers
    for media_type in (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ):
        assert media_type in request.headers["accept"]


async def test_by_digest(demo: ScriptedRegistry, client: RegistryClient) -> None:
    """With a digest the digest is asked for, whatever the tag."""
    digest = demo.add_image("library/nginx", "other")
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry, digest=digest))
    assert (answer.outcome, answer.digest) == (Outcome.FOUND, digest)
    assert lines(demo) == [f"HEAD /v2/library/nginx/manifests/{digest}"]


async def test_another_digest_is_not_what_was_asked_for(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """A registry that answers a digest with another one does not have the image."""
    digest = demo.add_image("library/nginx", "latest")
    demo.faults.wrong_digest = "sha256:" + "0" * 64
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry, digest=digest))
    assert (answer.outcome, answer.digest) == (Outcome.ABSENT, None)
    assert f"where {digest} was asked for" in answer.detail


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
async def test_404_is_absent(demo: ScriptedRegistry, client: RegistryClient, code: str) -> None:
    """An unknown repository and an unknown tag are the same to us."""
    body = f'{{"errors":[{{"code":"{code}"}}]}}'.encode()
    demo.faults.respond.append((always, Response(404, body=body)))
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert (answer.outcome, answer.digest) == (Outcome.ABSENT, None)


@pytest.mark.parametrize("refusal", [400, 405, 501])
async def test_get_where_head_is_refused(
    demo: ScriptedRegistry, client: RegistryClient, refusal: int
) -> None:
    """The digest of GET's header is taken."""
    digest = demo.add_image("library/nginx", "latest")
    demo.faults.head_status = refusal
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert (answer.outcome, answer.digest) == (Outcome.FOUND, digest)
    assert lines(demo) == [f"HEAD {MANIFEST}", f"GET {MANIFEST}"]


@pytest.mark.parametrize("by_digest", [False, True])
async def test_digest_is_computed_where_none_is_told(
    demo: ScriptedRegistry, client: RegistryClient, by_digest: bool
) -> None:
    """Over the manifest's bytes, and compared when a digest was asked for."""
    digest = demo.add_image("library/nginx", "latest")
    manifests = demo.images.manifests
    of_docker = replace(manifests["library/nginx", digest], media_type=DOCKER_MANIFEST)
    manifests["library/nginx", digest] = of_docker
    demo.faults.no_digest = True
    registry = configured(demo.address)
    image = candidate(registry, digest=digest if by_digest else "")
    answer = await client.head_manifest(registry, image)
    assert (answer.outcome, answer.digest) == (Outcome.FOUND, digest)


async def test_bytes_that_do_not_have_the_digest_are_not_the_image(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """A manifest whose bytes have another digest is absent, even under the right URL."""
    demo.faults.respond.append((always, Response(200, body=b"{}")))
    registry = configured(demo.address)
    wanted = "sha256:" + "1" * 64
    answer = await client.head_manifest(registry, candidate(registry, digest=wanted))
    assert answer.outcome is Outcome.ABSENT
    assert hashlib.sha256(b"{}").hexdigest() in answer.detail


async def test_a_malformed_digest_header_is_not_passed_on(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """What is not a digest counts as none told: that of the manifest is computed."""
    digest = demo.add_image("library/nginx", "latest")
    demo.faults.wrong_digest = "sha256:\x1b[31m"
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert (answer.outcome, answer.digest) == (Outcome.FOUND, digest)
    assert "\x1b" not in str(answer)


async def test_an_endless_manifest_is_cut_off(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """Four megabytes are read and no more."""
    demo.faults.respond.append((always, Response(200, body=b" " * (MANIFEST_LIMIT_BYTES + 1))))
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "more than 4194304 bytes" in answer.detail


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(429, {"Retry-After": "17"}), "too many requests; retry after 17 s"),
        (Response(429, {"Retry-After": "1" * 5000}), "answered 429: too many requests"),
        (Response(500), "answered 500"),
        (Response(503), "answered 503"),
        (Response(418), "says nothing about the image"),
        (Response(400, body=b"Client sent an HTTP request to an HTTPS server.\n"), "https://"),
    ],
)
async def test_other_statuses_could_not_tell(
    demo: ScriptedRegistry, client: RegistryClient, response: Response, words: str
) -> None:
    """They are not "absent", and they do not make the registry count as dead."""
    demo.faults.respond.append((always, response))
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert words in answer.detail
    assert len(answer.detail) < 200
    assert client.states() == {registry.host: "closed"}
    assert client.health()[registry.host].state is RegistryState.FAILING


async def test_refused_connection_says_so(client: RegistryClient) -> None:
    """With the address, and what to look at."""
    demo = ScriptedRegistry()
    await demo.start()
    await demo.stop()
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert answer.detail == (
        f"{demo.address} refused the connection; is the registry running on that port?"
    )


async def test_unknown_name_says_so(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS failures name the host and the remedy."""
    monkeypatch.setenv("NO_PROXY", "*")
    registry = configured("http://hub.invalid:5000")
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "hub.invalid" in answer.detail
    assert "/etc/hosts" in answer.detail


async def test_silence_ends_at_the_probe_timeout(demo: ScriptedRegistry) -> None:
    """A registry that takes the request and never answers costs the timeout, no more."""
    demo.faults.hang = always
    client = RegistryClient([], probe_timeout_s=3.0)
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    await client.aclose()
    assert answer.outcome is Outcome.UNREACHABLE
    assert "took the request but did not answer in time" in answer.detail
    assert 3.0 <= answer.elapsed_s < 15


async def test_the_timeout_bounds_the_whole_question() -> None:
    """Challenge, token and manifest together, not each."""
    async with ScriptedRegistry(auth="bearer", users={"admin": LOGIN.password}) as demo:
        demo.faults.delay_s = lambda _: 0.6
        client = RegistryClient([], probe_timeout_s=1.0)
        registry = configured(demo.address, credentials=LOGIN)
        answer = await client.head_manifest(registry, candidate(registry))
        await client.aclose()
    assert answer.outcome is Outcome.UNREACHABLE
    assert answer.elapsed_s < 3 * 0.6


async def test_not_http_says_so(client: RegistryClient) -> None:
    """A port that speaks something else, TLS for one."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x15\x03\x01\x00\x02\x02\x46 not http\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    registry = configured(f"http://127.0.0.1:{port}")
    answer = await client.head_manifest(registry, candidate(registry))
    server.close()
    await server.wait_closed()
    assert answer.outcome is Outcome.UNREACHABLE
    assert "not HTTP" in answer.detail


async def test_a_defect_is_an_answer_and_a_log_entry(
    client: RegistryClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing but cancellation comes out of the client."""
    registry = configured("http://[bad:5000")
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    report = await client.ping(registry)
    assert not report.reachable


async def test_no_secret_in_any_text(demo: ScriptedRegistry, client: RegistryClient) -> None:
    """repr and details of everything that the client hands out."""
    credentials = Credentials("admin", "hunter2-hunter2", "idtoken-idtoken")
    registry = configured(demo.address, credentials=credentials)
    answer = await client.head_manifest(registry, candidate(registry))
    for text in (repr(answer), repr(registry), repr(await client.ping(registry))):
        assert "hunter2" not in text
        assert "idtoken" not in text
