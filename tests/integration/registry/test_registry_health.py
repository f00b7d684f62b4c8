"""Which registries are left alone for a while, why, and what is told of it."""

from __future__ import annotations

import asyncio
import errno
import time

import anyio
import pytest

from shimcore.config import Credentials
from shimcore.registry.answers import Outcome, RegistryState
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import always, manifests
from tests.support.polling import until
from tests.support.registries import LOGIN, candidate, configured
from tests.support.registry_http import Response
from tests.support.scripted_registry import ScriptedRegistry


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
    assert client.states() == {registry.host: "half-open"}  # it may be these two alone
    started = time.monotonic()
    answer = await client.head_manifest(registry, candidate(registry))
    elapsed_s = time.monotonic() - started
    await client.aclose()
    assert "being tried again" in answer.detail
    assert elapsed_s < 1.4


@pytest.mark.parametrize("patience_s", [0.02, 0.2])
async def test_a_caller_that_gives_up_is_not_the_registrys_failure(
    demo: ScriptedRegistry, other: ScriptedRegistry, client: RegistryClient, patience_s: float
) -> None:
    """Deadlines and cancellations of callers, however many, while it takes its time."""
    await client.ping(configured(other.address))  # the libraries are loaded
    demo.faults.hang = always
    registry = configured(demo.address)
    for number in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(patience_s):
                await client.head_manifest(registry, candidate(registry, tag=f"v{number}"))
    assert client.states()[registry.host] == "closed"
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
    await until(  # the questions end a turn after those who asked
        lambda: client.states() == {registry.host: "half-open"}, client.states
    )
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


async def test_a_silence_is_doubted_at_once(demo: ScriptedRegistry) -> None:
    """A look asks again where one question had no answer, and does not wait until that is old."""
    demo.faults.hang = always
    registry = configured(demo.address)
    client = RegistryClient([registry], probe_timeout_s=0.2)
    await client.look()
    assert client.health()[registry.host].state is RegistryState.DOWN
    await client.aclose()
    demo.faults.hang = manifests
    client = RegistryClient([registry], probe_timeout_s=1.0)
    await client.head_manifest(registry, candidate(registry))  # a silence
    assert client.health()[registry.host].state is RegistryState.NOT_ASKED
    await client.look()
    await client.aclose()
    assert client.health()[registry.host].state is RegistryState.IN_USE
