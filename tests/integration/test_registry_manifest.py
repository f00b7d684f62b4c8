"""Questions about manifests, over real connections to the demo registry."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from shimcore.config import Credentials
from shimcore.demo.registry_http import Request, Response
from shimcore.registry.answers import Outcome, RegistryState
from shimcore.registry.client import RegistryClient
from shimcore.registry.manifest import MANIFEST_LIMIT_BYTES
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_puller import DOCKER_MANIFEST
from tests.support.scripted_registry import ScriptedRegistry

MANIFEST = "/v2/library/nginx/manifests/latest"


@pytest.fixture
async def demo() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as registry:
        yield registry


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    client = RegistryClient([], probe_timeout_s=5.0)
    yield client
    await client.aclose()


def always(_: Request) -> bool:
    return True


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
    """What is not a digest counts as none told."""
    digest = demo.add_image("library/nginx", "latest")
    demo.faults.wrong_digest = "sha256:\x1b[31m"
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.digest in (digest, None)
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
    client = RegistryClient([], probe_timeout_s=0.2)
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    await client.aclose()
    assert answer.outcome is Outcome.UNREACHABLE
    assert "took the request but did not answer in time" in answer.detail
    assert 0.2 <= answer.elapsed_s < 5


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


async def test_200_questions_for_one_image_are_one_request(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """And all get the same answer."""
    digest = demo.add_image("library/nginx", "latest")
    demo.faults.delay_s = lambda _: 0.05
    registry = configured(demo.address)
    answers = await asyncio.gather(
        *(client.head_manifest(registry, candidate(registry)) for _ in range(200))
    )
    assert {answer.digest for answer in answers} == {digest}
    assert len(demo.requests) == 1


async def test_a_cancelled_question_leaves_the_others(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """One caller going away costs nobody else the answer."""
    demo.add_image("library/nginx", "latest")
    demo.faults.delay_s = lambda _: 0.1
    registry = configured(demo.address)
    first = asyncio.create_task(client.head_manifest(registry, candidate(registry)))
    second = asyncio.create_task(client.head_manifest(registry, candidate(registry)))
    await asyncio.sleep(0.03)
    first.cancel()
    assert (await second).outcome is Outcome.FOUND
    assert first.cancelled()


async def test_closing_answers_those_who_wait(demo: ScriptedRegistry) -> None:
    """A question in the air when the client is closed gets an answer, not a cancellation."""
    demo.faults.hang = always
    client = RegistryClient([], probe_timeout_s=5)
    registry = configured(demo.address)
    question = asyncio.create_task(client.head_manifest(registry, candidate(registry)))
    await asyncio.sleep(0.05)
    await client.aclose()
    late = await client.head_manifest(registry, candidate(registry))
    for answer in (await question, late):
        assert answer.outcome is Outcome.UNREACHABLE
        assert "closed" in answer.detail


async def test_connections_are_reused(demo: ScriptedRegistry, client: RegistryClient) -> None:
    """Ten questions in a row take one connection."""
    registry = configured(demo.address)
    for number in range(10):
        await client.head_manifest(registry, candidate(registry, tag=f"v{number}"))
    assert (len(demo.requests), demo.connections) == (10, 1)


async def test_a_connection_closed_while_idle_is_replaced(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """A server that drops the pooled connection on the next request costs one retry."""
    demo.add_image("library/nginx", "latest")
    registry = configured(demo.address)
    await client.head_manifest(registry, candidate(registry, tag="first"))
    dropped: list[Request] = []

    def drop_once(request: Request) -> bool:
        dropped.append(request)
        return len(dropped) == 1

    demo.faults.drop = drop_once
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.FOUND
    assert demo.connections == 2


async def test_a_new_connection_that_breaks_is_not_tried_again(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """The retry is for stale connections only."""
    demo.faults.drop = always
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "broke off" in answer.detail
    assert len(demo.requests) == 1


async def test_a_dead_registry_is_not_asked_after_the_first_question() -> None:
    """The breaker answers for it, says why, and the registry is used again when it is back."""
    now_s = 100.0
    client = RegistryClient([], probe_timeout_s=5.0, clock=lambda: now_s)
    demo = ScriptedRegistry()
    await demo.start()
    digest = demo.add_image("library/nginx", "latest")
    await demo.stop()
    registry = configured(demo.address)
    await client.head_manifest(registry, candidate(registry))
    now_s += 0.1
    answers = [await client.head_manifest(registry, candidate(registry)) for _ in range(20)]
    assert {answer.outcome for answer in answers} == {Outcome.UNREACHABLE}
    assert all(answer.detail.startswith("not asked: it failed 0.1 s") for answer in answers)
    assert client.states() == {registry.host: "open"}
    await demo.start()
    now_s += 0.65
    assert client.states() == {registry.host: "half-open"}
    answer = await client.head_manifest(registry, candidate(registry))
    await demo.stop()
    await client.aclose()
    assert (answer.outcome, answer.digest) == (Outcome.FOUND, digest)
    assert client.states() == {registry.host: "closed"}


async def test_a_silent_registry_costs_a_question_only_the_trials_grace(
    demo: ScriptedRegistry,
) -> None:
    """While its trial runs into the timeout, questions are answered after 0.2 s at most."""
    demo.faults.hang = always
    now_s = 100.0
    client = RegistryClient([], probe_timeout_s=1.5, clock=lambda: now_s)
    registry = configured(demo.address)
    await asyncio.gather(
        *(client.head_manifest(registry, candidate(registry, tag=tag)) for tag in ("a", "b"))
    )
    assert client.states() == {registry.host: "open"}
    now_s += 0.65
    started = time.monotonic()
    answer = await client.head_manifest(registry, candidate(registry))
    elapsed_s = time.monotonic() - started
    await client.aclose()
    assert "being tried again" in answer.detail
    assert elapsed_s < 1.4


@pytest.mark.parametrize("patience_s", [0.02, 0.2])
async def test_a_caller_that_gives_up_is_not_the_registrys_failure(
    demo: ScriptedRegistry, client: RegistryClient, patience_s: float
) -> None:
    """Deadlines and cancellations of callers, however many, while it takes its time."""
    demo.faults.hang = always
    registry = configured(demo.address)
    for number in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(patience_s):
                await client.head_manifest(registry, candidate(registry, tag=f"v{number}"))
    assert client.states() == {registry.host: "closed"}
    assert client.health()[registry.host].state is RegistryState.NOT_ASKED


async def test_a_caller_as_patient_as_the_probe_hides_no_silence(demo: ScriptedRegistry) -> None:
    """Its own limit, the same as the probe's, may run out a moment before."""
    client = RegistryClient([], probe_timeout_s=2.0)
    registry = configured(demo.address)
    await client.head_manifest(registry, candidate(registry))  # the libraries are loaded
    demo.faults.hang = always

    async def ask(tag: str) -> None:
        async with asyncio.timeout(2.0):
            await client.head_manifest(registry, candidate(registry, tag=tag))

    await asyncio.gather(ask("a"), ask("b"), return_exceptions=True)
    await asyncio.sleep(0.05)  # the questions end a turn after those who asked
    assert client.states() == {registry.host: "open"}
    await client.aclose()


async def test_no_descriptor_left_is_not_the_registrys_failure(
    demo: ScriptedRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortage is this process's, and every registry would be left alone for it."""

    async def connect_tcp(*_: object, **__: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    registry = configured(demo.address)
    with monkeypatch.context() as patched:
        patched.setattr(anyio, "connect_tcp", connect_tcp)
        answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert "Too many open files" in answer.detail
    assert client.states() == {registry.host: "closed"}


async def test_a_dead_address_behind_one_images_redirect_leaves_the_registry_in_use(
    demo: ScriptedRegistry, client: RegistryClient
) -> None:
    """The registry answered; what it points to for one image is not it."""
    async with ScriptedRegistry() as gone:
        pass
    digest = demo.add_image("library/nginx", "latest")
    moved = Response(307, {"Location": f"{gone.address}/manifest"})
    demo.faults.respond.append((lambda request: request.target.endswith("/moved"), moved))
    registry = configured(demo.address)
    answer = await client.head_manifest(registry, candidate(registry, tag="moved"))
    assert "refused the connection" in answer.detail
    assert (await client.head_manifest(registry, candidate(registry))).digest == digest


async def test_health_tells_what_the_questions_met() -> None:
    """Refused, then taken, then down: each with its reason."""
    async with ScriptedRegistry(auth="basic", users={"admin": LOGIN.password}) as demo:
        registry = configured(demo.address, credentials=Credentials("admin", "wrong-one"))
        client = RegistryClient([registry], probe_timeout_s=5)
        assert client.health()[registry.host].state is RegistryState.NOT_ASKED
        await client.head_manifest(registry, candidate(registry))
        health = client.health()[registry.host]
        assert health.state is RegistryState.LOGIN_REFUSED
        assert health.reason == "the login was refused (401)"
        corrected = configured(demo.address, credentials=LOGIN)
        await client.head_manifest(corrected, candidate(corrected))
        assert client.health()[registry.host].state is RegistryState.IN_USE
    await client.head_manifest(registry, candidate(registry, tag="other"))
    health = client.health()[registry.host]
    assert health.state is RegistryState.DOWN
    assert "refused the connection" in health.reason
    assert health.retry_in_s is not None
    await client.aclose()


async def test_health_knows_a_token_server_that_refuses() -> None:
    """A login refused there is refused."""
    async with ScriptedRegistry(auth="bearer", users={"admin": LOGIN.password}) as demo:
        registry = configured(demo.address, credentials=Credentials("admin", "wrong-one"))
        client = RegistryClient([registry], probe_timeout_s=5)
        report = await client.ping(registry)
        assert report.login == "refused"
        assert client.health()[registry.host].state is RegistryState.LOGIN_REFUSED
        await client.aclose()


async def test_states_know_every_configured_registry() -> None:
    """From the start, asked or not."""
    client = RegistryClient([configured("http://hub:5000")], probe_timeout_s=1)
    assert client.states() == {"hub:5000": "closed"}


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
