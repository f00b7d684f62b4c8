from __future__ import annotations

import asyncio

import pytest

from shimcore.config import Names
from shimcore.heldcall import Forward
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.unit.images.fakes import (
    CREATE,
    DIGEST,
    HUB,
    PULL,
    REMOVE,
    STATUS,
    Bench,
    FakeRegistries,
    FakeRuntime,
    config_of,
    create_request,
    failed,
    pull_request,
    remove_request,
    status_request,
)
from tests.unit.images.nginx import AT_HUB, AT_MIRROR, NGINX


def bench_with(*names: str, mode: Names = Names.BOTH, store: bool = True) -> Bench:
    """A node on which pulls of `names` have happened, before this shim."""
    bench = Bench(config=config_of(names=mode), runtime=FakeRuntime(store=store))
    for name in names:
        bench.runtime.pulled(name)
    return bench


@pytest.mark.parametrize("image", ["nginx", "nginx:latest", "docker.io/library/nginx", NGINX])
async def test_preloaded_under_its_own_name(image: str) -> None:
    """Goes on as it came, and the next question needs no side call."""
    bench = bench_with(NGINX)
    assert await bench.status(image) == image
    bench.runtime.statuses.clear()
    call = bench.service.open(STATUS, status_request(image), None)
    assert call.decide_now() == Forward(None)
    assert bench.runtime.statuses == []


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("mode", list(Names))
async def test_preloaded_under_the_hubs_name(mode: Names, store: bool) -> None:
    """Found without asking any registry; with an image store it gets its own name on the way."""
    bench = bench_with(AT_HUB, mode=mode, store=store)
    named = store and mode is not Names.REGISTRY
    assert await bench.status("nginx") == ("nginx" if named else AT_HUB)
    assert (NGINX in bench.runtime.names()) is named
    assert AT_HUB in bench.runtime.names()
    assert await bench.status("nginx") == ("nginx" if named else AT_HUB)
    assert bench.registries.asked == []


async def test_absent_goes_on_as_it_came() -> None:
    """Every name is asked for once, the original first, then by priority."""
    bench = bench_with()
    assert await bench.status("nginx") == "nginx"
    asked = bench.runtime.statuses[:-1]
    assert asked == ["nginx", AT_HUB, AT_MIRROR, "last.local:5000/library/nginx:latest"]


async def test_several_candidates_there() -> None:
    """The best registry's name is taken."""
    bench = bench_with(AT_MIRROR, AT_HUB, mode=Names.REGISTRY)
    assert await bench.status("nginx") == AT_HUB


async def test_image_by_digest_is_found_under_the_hubs_digest() -> None:
    """A digest is looked for under each registry's name, too."""
    bench = bench_with(f"{HUB}/library/nginx@{DIGEST}", mode=Names.REGISTRY)
    assert await bench.status(f"nginx@{DIGEST}") == f"{HUB}/library/nginx@{DIGEST}"


async def test_hint_is_dropped_when_the_answer_says_absent() -> None:
    """The image was removed past the shim: one wrong first look, no wrong answer after it."""
    bench = bench_with(NGINX)
    await bench.status("nginx")
    bench.runtime.records.clear()
    bench.runtime.pulled(AT_HUB)
    assert await bench.status("nginx") == "nginx"
    bench.runtime.statuses.clear()
    await bench.status("nginx")
    assert AT_HUB in bench.runtime.statuses


async def test_removal_goes_on_with_the_name_that_is_there() -> None:
    """And all hints are forgotten, since a removal takes every name of the image along."""
    bench = bench_with(AT_MIRROR, mode=Names.REGISTRY)
    await bench.status("nginx")
    decision = await bench.decide(REMOVE, remove_request("nginx"))
    assert isinstance(decision, Forward)
    request = cri_pb2.RemoveImageRequest.FromString(decision.message or b"")
    assert request.image.image == AT_MIRROR
    assert len(bench.service._context.hints) == 0


async def test_removal_by_id_forgets_hints() -> None:
    """kubelet's garbage collection removes by ID; which names went along is not known."""
    bench = bench_with(NGINX)
    await bench.status("nginx")
    call = bench.service.open(REMOVE, remove_request("sha256:" + "1" * 64), None)
    assert call.decide_now() == Forward(None)
    await bench.status("nginx")
    call.finished(0, True, "")
    assert len(bench.service._context.hints) == 0


async def test_removal_by_a_registrys_name_forgets_hints() -> None:
    """The original name goes along with the hub's."""
    bench = bench_with(NGINX, AT_HUB)
    await bench.status("nginx")
    call = bench.service.open(REMOVE, remove_request(AT_HUB), None)
    assert call.decide_now() == Forward(None)
    assert len(bench.service._context.hints) == 0


async def test_removal_does_not_name_what_it_removes() -> None:
    """An image under the hub's name only is removed under it, not given another first."""
    bench = bench_with(AT_HUB)
    await bench.decide(REMOVE, remove_request("nginx"))
    assert NGINX not in bench.runtime.names()


async def test_container_of_an_id_goes_on_at_once() -> None:
    """What kubelet sends: the ref that a pull returned."""
    bench = bench_with()
    message = create_request("sha256:" + "1" * 64, "nginx")
    assert bench.service.open(CREATE, message, None).decide_now() == Forward(None)
    assert bench.runtime.statuses == []


async def test_container_of_a_name_changes_only_the_image() -> None:
    """`user_specified_image`, the sandbox's config and fields we do not know stay."""
    bench = bench_with(AT_HUB, mode=Names.REGISTRY)
    message = create_request("nginx", "nginx") + b"\x1a\x03abc" + b"\x8a\x7d\x02hi"
    decision = await bench.decide(CREATE, message)
    assert isinstance(decision, Forward)
    assert decision.message is not None
    request = cri_pb2.CreateContainerRequest.FromString(decision.message)
    assert request.config.image.image == AT_HUB
    assert request.config.image.user_specified_image == "nginx"
    assert b"\x1a\x03abc" in decision.message
    assert b"\x8a\x7d\x02hi" in decision.message


async def test_runtime_that_is_down_answers_for_itself() -> None:
    """The call goes on as it came."""
    bench = bench_with(AT_HUB)
    bench.runtime.down = True
    assert await bench.decide(STATUS, status_request("nginx")) == Forward(None)


async def test_runtime_that_does_not_answer_is_given_the_callers_time() -> None:
    """Then the call goes on as it came."""

    class Stuck(FakeRuntime):
        async def image_status(self, *args: object, **kwargs: object) -> None:
            await asyncio.Event().wait()

    bench = Bench(runtime=Stuck())
    assert await bench.decide(STATUS, status_request("nginx"), 0.05) == Forward(None)


async def test_status_that_the_runtime_gives_for_one_name_is_no_answer() -> None:
    """Other names are still looked for."""

    class Picky(FakeRuntime):
        async def image_status(self, image: str, **kwargs: object) -> object:  # type: ignore[override]
            if image == AT_HUB:
                raise failed("bad name", StatusCode.INVALID_ARGUMENT)
            return await super().image_status(image, timeout_s=None)

    bench = Bench(config=config_of(names=Names.REGISTRY), runtime=Picky())
    bench.runtime.pulled(AT_MIRROR)
    decision = await bench.decide(STATUS, status_request("nginx"))
    assert isinstance(decision, Forward)
    assert AT_MIRROR.encode() in (decision.message or b"")


@pytest.mark.parametrize("image", ["", "sha256:" + "1" * 64, "1" * 64, "Bad/Name", f"{HUB}/app"])
async def test_nothing_else_it_could_be_called(image: str) -> None:
    """IDs, what is no name, and names of configured registries go on at once."""
    bench = bench_with()
    assert bench.service.open(STATUS, status_request(image), None).decide_now() == Forward(None)


async def test_mending_happens_once_when_it_fails() -> None:
    """A store that refuses costs one warning, not one for each question."""
    bench = bench_with(AT_HUB)
    bench.runtime.store_fault = failed("read-only")
    assert await bench.status("nginx") == AT_HUB
    bench.runtime.store_fault = None
    assert await bench.status("nginx") == AT_HUB
    assert NGINX not in bench.runtime.names()


async def test_question_waits_while_an_image_is_being_named() -> None:
    """It never sees half a pull: the registry's name with the own one not yet there."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.hidden = {NGINX: 5}
    pull = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    while AT_HUB not in bench.runtime.names():
        await asyncio.sleep(0)
    assert await bench.status("nginx") == "nginx"
    assert bench.runtime.names() == {NGINX, f"docker.io/library/nginx@{DIGEST}"}
    await pull
    await bench.names.drain()


async def test_an_image_volume_is_found_like_the_containers_own_image() -> None:
    """Whichever of them is there under a registry's name alone goes on under it."""
    bench = bench_with(NGINX, f"{HUB}/data/set:1", mode=Names.REGISTRY)
    mount = cri_pb2.Mount(image=cri_pb2.ImageSpec(image="data/set:1"))
    config = cri_pb2.ContainerConfig(image=cri_pb2.ImageSpec(image="nginx"), mounts=[mount])
    message = cri_pb2.CreateContainerRequest(config=config).SerializeToString()
    decision = await bench.decide(CREATE, message)
    assert isinstance(decision, Forward)
    sent = cri_pb2.CreateContainerRequest.FromString(decision.message or b"")
    assert sent.config.image.image == "nginx"
    assert [one.image.image for one in sent.config.mounts] == [f"{HUB}/data/set:1"]


async def test_an_image_volume_by_id_goes_on_at_once() -> None:
    """What kubelet sends: the refs that pulls returned."""
    bench = bench_with()
    image_id = "sha256:" + "1" * 64
    mount = cri_pb2.Mount(image=cri_pb2.ImageSpec(image=image_id))
    config = cri_pb2.ContainerConfig(image=cri_pb2.ImageSpec(image=image_id), mounts=[mount])
    message = cri_pb2.CreateContainerRequest(config=config).SerializeToString()
    assert bench.service.open(CREATE, message, None).decide_now() == Forward(None)
    assert bench.runtime.statuses == []


async def test_a_removal_that_is_given_up_before_it_begins() -> None:
    """It is none: an image that is there gets its name as ever."""
    bench = bench_with(AT_HUB)
    call = bench.service.open(REMOVE, remove_request("other"), None)
    assert call.decide_now() is None
    await bench.status("nginx")
    assert NGINX in bench.runtime.names()
