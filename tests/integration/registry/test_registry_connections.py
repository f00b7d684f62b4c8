"""Questions that are one request, and connections that are kept, dropped and closed."""

from __future__ import annotations

import asyncio

from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from tests.integration.registry.questions import always
from tests.support.registries import candidate, configured
from tests.support.registry_http import Request
from tests.support.scripted_registry import ScriptedRegistry


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
