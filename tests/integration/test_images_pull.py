from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.config import Credentials
from shimcore.heldcall import Refuse
from shimcore.images import progress
from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from tests.integration.images_support import CALLER, HUB_LOGIN, Node, node
from tests.support.polling import until
from tests.support.registry_http import Request, Response
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import pull_out_of_thin_air
from tests.support.standin_images import PulledImage
from tests.support.standin_rpc import StatusError

NGINX = "library/nginx:latest"
PARENT_SWEPT = f"parent snapshot sha256:{'ab' * 32} does not exist: not found"


def fill(*registries: ScriptedRegistry, repository: str = "library/nginx") -> str:
    """Puts one image everywhere; its digest."""
    digests = {registry.add_image(repository, "latest") for registry in registries}
    return digests.pop()


def is_blob(request: Request) -> bool:
    return "/blobs/" in request.path


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Node]:
    """nginx on the hub, on the mirror, and where it comes from."""
    async with node(tmp_path, "stallTimeout: 1s") as made:
        fill(made.hub, made.mirror, made.origin)
        yield made


async def test_pulled_from_the_hub_with_the_hubs_login(three: Node) -> None:
    """The caller's credentials are seen by nobody."""
    pulled = await three.pull("nginx", CALLER)
    assert (pulled.name, pulled.code) == (three.at_hub(NGINX), 0)
    assert {each.user for each in three.hub.requests} == {"", "hub-user"}
    assert three.origin.requests == []
    assert b"callers-secret" not in b"".join(
        each.request for each in three.runtime.called("PullImage")
    )


async def test_second_pull_asks_no_registry(three: Node) -> None:
    """The steady state: a remembered answer, one pull in the runtime."""
    await three.pull("nginx")
    before = [request.method for request in three.hub.requests].count("HEAD")
    pulls = len(three.asked_runtime())
    await three.pull("nginx")
    assert [request.method for request in three.hub.requests].count("HEAD") == before
    assert len(three.asked_runtime()) == pulls + 1


async def test_absent_everywhere_is_pulled_where_it_comes_from(three: Node) -> None:
    """With the caller's own credentials, unchanged."""
    fill(three.origin, repository="library/redis")
    pulled = await three.pull("redis", CALLER)
    assert (pulled.name, pulled.code) == ("redis", 0)
    assert "caller" in {each.user for each in three.origin.requests}
    assert all(each.user != "caller" for each in three.hub.requests + three.mirror.requests)


async def test_runtimes_own_error_comes_back(three: Node) -> None:
    """Nobody has it: the runtime says so about the original name."""
    pulled = await three.pull("nobody/has:this", CALLER)
    assert pulled.code == StatusCode.NOT_FOUND
    assert "docker.io/nobody/has:this" in pulled.text
    assert f"{three.hub.host}: absent" in pulled.text


async def test_digest_that_the_hub_does_not_have(three: Node) -> None:
    """Another image of that name on the hub is not taken for it."""
    digest = three.origin.add_image("library/nginx", "latest", b"newer\n")
    pulled = await three.pull(f"nginx:latest@{digest}", CALLER)
    assert (pulled.name, pulled.code) == (f"nginx:latest@{digest}", 0)


async def hub_down(made: Node) -> None:
    await made.hub.stop()


async def hub_hung(made: Node) -> None:
    made.hub.faults.hang = lambda request: True


async def hub_hung_in_a_blob(made: Node) -> None:
    made.hub.faults.hang = is_blob


async def hub_stalls_in_the_middle_of_a_blob(made: Node) -> None:
    made.hub.faults.stall = is_blob


async def hub_drops_blobs(made: Node) -> None:
    made.hub.faults.drop = is_blob


async def hub_without_the_blob(made: Node) -> None:
    made.hub.faults.missing_blobs = set(made.hub.images.blobs)


async def hub_broken(made: Node) -> None:
    made.hub.faults.respond = [(lambda request: True, Response(500))]


async def hub_with_broken_blobs(made: Node) -> None:
    made.hub.faults.respond = [(is_blob, Response(503))]


async def hub_with_other_password(made: Node) -> None:
    made.hub._users = {"hub-user": "changed"}


async def hub_refusing_blobs(made: Node) -> None:
    made.hub.faults.respond = [(is_blob, Response(401))]


async def hub_with_too_many_requests(made: Node) -> None:
    made.hub.faults.respond = [(is_blob, Response(429))]


Fault = Callable[[Node], Awaitable[None]]

FAULTS: list[Fault] = [
    hub_down,
    hub_hung,
    hub_hung_in_a_blob,
    hub_stalls_in_the_middle_of_a_blob,
    hub_drops_blobs,
    hub_without_the_blob,
    hub_broken,
    hub_with_broken_blobs,
    hub_with_other_password,
    hub_refusing_blobs,
    hub_with_too_many_requests,
]

SOON_S = 12.0
"""A hub that hangs costs `probeTimeout`, 3 s, or the time after which it stands still; the rest
next to nothing. `timeout`, which nothing here may run into, is 15 minutes."""


@pytest.fixture(autouse=True)
def _begins_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that has not begun is given two seconds, not two minutes."""
    monkeypatch.setattr(progress, "FIRST_BYTE_S", 2.0)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("worked_before", [False, True], ids=["new", "worked-before"])
async def test_fails_over_to_the_mirror(three: Node, fault: Fault, worked_before: bool) -> None:
    """Whatever is wrong with the hub, the image comes from the mirror, soon and every time."""
    if worked_before:
        await three.pull("nginx")
        await three.remove("nginx")
    await fault(three)
    pulled = await three.pull("nginx", CALLER)
    assert (pulled.name, pulled.code) == (f"{three.mirror.host}/{NGINX}", 0)
    assert pulled.seconds < SOON_S
    assert {each.user for each in three.mirror.requests} == {"", "mirror-user"}
    assert {name for name in three.names() if "@" not in name} == {f"docker.io/{NGINX}"}
    three.hub.faults.hang = None


@pytest.mark.parametrize(
    "words", ["failed to create image reference", "failed to get image from containerd image store"]
)
async def test_a_name_that_another_pull_took_away(three: Node, words: str) -> None:
    """While containerd was writing it: the hub is asked again, and is not left for it."""
    taken = iter([None])
    whole = three.runtime.puller

    async def raced(image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        if next(taken, 0) is None:
            raise StatusError(StatusCode.NOT_FOUND, f'{words} "{image}": not found')
        return await whole(image, auth)

    three.runtime.puller = raced
    pulled = await three.pull("nginx", CALLER)
    assert (pulled.name, pulled.code) == (three.at_hub(NGINX), 0)


@pytest.mark.parametrize("times", [1, 3])
async def test_layers_that_the_runtime_has_just_deleted(three: Node, times: int) -> None:
    """The hub's failure is followed by a garbage collection: the mirror is asked again."""
    await hub_without_the_blob(three)
    swept = iter(range(times))
    whole = three.runtime.puller

    async def sweeping(image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        pulled = await whole(image, auth)
        if next(swept, None) is not None:
            details = f"failed to prepare extraction snapshot: {PARENT_SWEPT}"
            raise StatusError(StatusCode.NOT_FOUND, details)
        return pulled

    three.runtime.puller = sweeping
    pulled = await three.pull("nginx", CALLER)
    at_mirror = f"{three.mirror.host}/{NGINX}"
    assert (pulled.name, pulled.code) == (at_mirror, 0)
    assert three.asked_runtime().count(at_mirror) == times + 1


async def test_a_layer_that_is_gone_for_good(three: Node) -> None:
    """Each registry is asked four times, and the error is the runtime's."""

    async def sweeping(image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        raise StatusError(StatusCode.NOT_FOUND, PARENT_SWEPT)

    three.runtime.puller = sweeping
    pulled = await three.pull("nginx")
    assert pulled.code == StatusCode.NOT_FOUND
    assert PARENT_SWEPT in pulled.text
    assert set(Counter(three.asked_runtime()).values()) == {4}


async def test_a_slow_steady_transfer_is_not_left(three: Node) -> None:
    """Three times `stallTimeout`, in context that keep coming, with a mirror that is idle."""
    three.hub.faults.trickle_s = 0.3
    pulled = await three.pull("nginx")
    assert (pulled.name, pulled.code) == (three.at_hub(NGINX), 0)
    assert pulled.seconds > 3


async def test_a_pull_that_makes_progress_is_not_cut(tmp_path: Path) -> None:
    """Not even by `timeout`, which is for pulls in which nothing moves."""
    async with node(tmp_path, "timeout: 2s") as made:
        fill(made.hub)
        made.hub.faults.trickle_s = 0.4
        pulled = await made.pull("nginx")
        assert (pulled.name, pulled.code) == (made.at_hub(NGINX), 0)
        assert pulled.seconds > 3


async def test_the_last_one_is_not_left_for_standing_still(tmp_path: Path) -> None:
    """The hub stalls and nobody else has it: it is taken up again and given its time."""
    async with node(tmp_path, "stallTimeout: 1s\nfallback: deny") as made:
        fill(made.hub)
        made.hub.faults.stall = is_blob
        task = asyncio.create_task(made.pull("nginx"))
        await asyncio.sleep(4)
        assert not task.done()
        made.hub.faults.stall = None
        task.cancel()
        await asyncio.wait({task})


async def test_the_one_with_the_most_bytes_is_taken_up_again(tmp_path: Path) -> None:
    """After all others have failed: the hub stalled, the mirror and the original have it not."""
    async with node(tmp_path, "stallTimeout: 1s") as made:
        fill(made.hub)
        made.hub.faults.stall = is_blob
        task = asyncio.create_task(made.pull("nginx"))
        await until(lambda: len(made.asked_runtime()) >= 2, "the original name is not asked for")
        made.hub.faults.stall = None
        pulled = await task
        assert made.asked_runtime() == [made.at_hub(NGINX), "nginx", made.at_hub(NGINX)]
        assert pulled.code == 0


async def test_recovered_hub_is_used_again_within_seconds(three: Node) -> None:
    """And while it is dead, a pull costs milliseconds, not a timeout."""
    await three.hub.stop()
    await three.pull("nginx")
    dead = await three.pull("nginx")
    assert dead.name.startswith(three.mirror.host)
    assert dead.seconds < three.config.probe_timeout_s
    await three.hub.start()
    started = time.monotonic()
    while not (await three.pull("nginx")).name.startswith(three.hub.host):
        assert time.monotonic() - started < 10
        await asyncio.sleep(0.1)


async def test_expired_tokens_are_fetched_anew(tmp_path: Path) -> None:
    """The hub's tokens live for a moment; a later pull just asks for another."""
    hub = ScriptedRegistry(users=HUB_LOGIN, auth="bearer", token_lifetime_s=0.05)
    async with node(tmp_path, hub=hub) as made:
        fill(made.hub, made.mirror)
        fill(made.hub, repository="library/redis")
        hub.token_lifetime_s = 60
        assert (await made.pull("nginx")).name == made.at_hub(NGINX)
        hub.revoke_tokens()
        assert (await made.pull("redis")).name == made.at_hub("library/redis:latest")


async def test_deny_never_lets_the_original_name_out(tmp_path: Path) -> None:
    """The refusal names every registry and its reason."""
    async with node(tmp_path, "fallback: deny") as made:
        fill(made.hub, made.mirror, made.origin)
        for registry in (made.hub, made.mirror):
            registry.faults.missing_blobs = set(registry.images.blobs)
        pulled = await made.pull("nginx", CALLER)
        assert pulled.code == StatusCode.NOT_FOUND  # the runtime's own, of the last pull
        assert f"{made.hub.host}: pull failed" in pulled.text
        assert f"{made.mirror.host}: pull failed" in pulled.text
        absent = await made.pull("redis", CALLER)
        assert absent.code == StatusCode.NOT_FOUND
        await made.mirror.stop()
        unknown = await made.pull("other", CALLER)
        assert unknown.code == StatusCode.UNAVAILABLE
        assert f"{made.hub.host}: absent" in unknown.text
        assert f"{made.mirror.host}: unreachable" in unknown.text
        assert made.origin.requests == []
        assert not any(name == "nginx:latest" for name in made.asked_runtime())


async def test_cancelled_caller_ends_the_pull_in_the_runtime(three: Node) -> None:
    """Nothing goes on behind a caller that is gone."""
    three.hub.faults.hang = is_blob
    task = asyncio.create_task(three.pull("nginx"))
    await until(lambda: three.runtime.called("PullImage"), "the runtime is asked for no pull")
    task.cancel()
    await asyncio.wait({task})
    await until(lambda: three.runtime.cancelled, "the pull goes on in the runtime")
    assert three.runtime.cancelled == ["/runtime.v1.ImageService/PullImage"]
    three.hub.faults.hang = None


async def test_restart_of_the_runtime_in_the_middle(three: Node) -> None:
    """The pull ends with the runtime's absence, and blames no registry; the next one works."""
    await three.runtime.stop()
    decision = await three.decide("nginx")
    assert isinstance(decision, Refuse)
    assert decision.code == StatusCode.UNAVAILABLE
    assert "does not answer" in decision.text
    await three.runtime.start()
    assert (await three.pull("nginx")).name == three.at_hub(NGINX)


@pytest.mark.parametrize("api", ["v1", "v1alpha2"])
async def test_both_cri_versions(three: Node, api: str) -> None:
    """The older one is decided alike."""
    assert (await three.pull("nginx", api=api)).name == three.at_hub(NGINX)


async def test_two_hundred_pulls_of_forty_images(three: Node) -> None:
    """No registry hears a question twice at a time, no call is lost, no descriptor stays open."""
    images = [f"team/app-{number}" for number in range(40)]
    for at, image in enumerate(images):
        fill((three.hub, three.mirror, three.origin)[at % 3], repository=image)
    three.runtime.puller = pull_out_of_thin_air
    together = _count_equal_questions(three.hub, three.mirror)
    await three.pull("team/app-0")
    before = len(os.listdir("/proc/self/fd"))
    pulls = await asyncio.gather(*(three.pull(image, CALLER) for image in images * 5))
    assert [pulled.code for pulled in pulls] == [0] * 200
    assert max(together.values()) == 1
    await three.naming.drain()
    for image in images:
        assert await three.question(image) == (image, True)
    await three.registries.aclose()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors are kept open")


def _count_equal_questions(*registries: ScriptedRegistry) -> Counter[tuple[str, str]]:
    """The highest number of equal HEAD requests that each registry had open at one time."""
    highest: Counter[tuple[str, str]] = Counter()
    for registry in registries:
        opened: Counter[str] = Counter()
        serve = registry._serve_one

        async def counted(
            request: Request, writer: asyncio.StreamWriter, *,
            opened: Counter[str] = opened, host: str = registry.host, serve: object = serve,
        ) -> bool:  # fmt: skip
            key = f"{request.method} {request.path} {bool(request.basic)}"
            opened[key] += request.method == "HEAD"
            highest[host, key] = max(highest[host, key], opened[key])
            try:
                return await serve(request, writer)  # type: ignore[no-any-return, operator]
            finally:
                opened[key] -= request.method == "HEAD"

        registry._serve_one = counted  # type: ignore[method-assign]
    return highest


async def test_image_of_a_configured_registry_gets_its_login(three: Node) -> None:
    """Injected when the caller sent none; the caller's own otherwise."""
    fill(three.mirror, repository="team/app")
    name = f"{three.mirror.host}/team/app:latest"
    pulled = await three.pull(name)
    assert (pulled.name, pulled.code) == (name, 0)
    assert (await three.pull(name, {"username": "mirror-user", "password": "wrong"})).code != 0


async def test_credentials_are_those_of_the_config_in_force(three: Node) -> None:
    """After a reload the new password is used, in the resolver and in the pull."""
    three.hub._users = {"hub-user": "changed"}
    assert (await three.pull("nginx")).name.startswith(three.mirror.host)
    config = three.config
    hub = replace(config.hub, credentials=Credentials("hub-user", "changed"))
    three.config = replace(config, hub=hub, registries=(hub, *config.registries[1:]))
    await three.restart()
    assert (await three.pull("nginx")).name == three.at_hub(NGINX)
