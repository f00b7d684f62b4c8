from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import replace

import pytest

from shimcore.config import Names
from shimcore.images import Forward
from shimcore.images.names import names_for
from shimcore.reference import parse_reference
from shimcore.registry.answers import Outcome
from shimcore.runtime import StatusCode
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MANAGED,
    MIRROR,
    OTHER_DIGEST,
    PULL,
    Bench,
    FakeRegistries,
    FakeRuntime,
    config_of,
    failed,
    pull_request,
)

NGINX = "docker.io/library/nginx:latest"
NGINX_DIGEST = f"docker.io/library/nginx@{DIGEST}"
AT_HUB = f"{HUB}/library/nginx:latest"
HUB_DIGEST = f"{HUB}/library/nginx@{DIGEST}"


def bench_of(mode: Names, *, store: bool = True, **outcomes: Outcome) -> Bench:
    """A node where the hub has every image."""
    return Bench(
        config=config_of(names=mode),
        registries=FakeRegistries({HUB: Outcome.FOUND}),
        runtime=FakeRuntime(store=store),
    )


@pytest.fixture(params=[False, True], ids=["unproven", "proven"])
def proven(request: pytest.FixtureRequest) -> bool:
    """Whether the hub's last pull succeeded: then the pull is forwarded, else tried aside."""
    return bool(request.param)


async def prove(bench: Bench, proven: bool) -> None:
    if proven:
        await bench.pull("warm/up:1")
        bench.runtime.records.clear()
        bench.runtime.deleted.clear()


async def test_both(proven: bool) -> None:
    """The image has the names that people write, beside the registry's."""
    bench = bench_of(Names.BOTH)
    await prove(bench, proven)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}
    assert bench.runtime.records[NGINX].labels == MANAGED
    assert bench.runtime.records[NGINX].target.digest == DIGEST


async def test_original(proven: bool) -> None:
    """Only the names that people write are left of the pull."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_registry(proven: bool) -> None:
    """Only the registry's names."""
    bench = bench_of(Names.REGISTRY)
    await prove(bench, proven)
    await bench.pull("nginx")
    assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}


@pytest.mark.parametrize("mode", [Names.BOTH, Names.ORIGINAL])
async def test_runtime_without_an_image_store(
    mode: Names, proven: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Acts as `registry`, and says so once."""
    bench = bench_of(mode, store=False)
    await prove(bench, proven)
    await bench.pull("nginx")
    await bench.pull("redis")
    assert AT_HUB in bench.runtime.names()
    assert NGINX not in bench.runtime.names()
    assert sum("has no image store" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("image", [f"nginx@{DIGEST}", f"nginx:1.25@{DIGEST}"])
async def test_digest_is_the_only_name_of_an_image_by_digest(image: str, proven: bool) -> None:
    """With tag and digest both, the runtime drops the tag, and so do the names."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    await bench.pull(image)
    assert bench.runtime.names() == {NGINX_DIGEST}


async def test_name_that_was_there_before_stays(proven: bool) -> None:
    """`original` removes only what this pull brought: here the digest's name, not the tag's."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    bench.runtime.pulled(AT_HUB, OTHER_DIGEST)
    await bench.pull("nginx")
    old = f"{HUB}/library/nginx@{OTHER_DIGEST}"
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, old}
    assert bench.runtime.deleted == [HUB_DIGEST]


async def test_preloaded_image_keeps_all_its_names(proven: bool) -> None:
    """Pulled again with the same content, nothing of it is the pull's."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    bench.runtime.pulled(AT_HUB)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}


async def test_unknown_digest_stays(proven: bool) -> None:
    """Without the registry's digest nobody knows whether that name was there, so it stays."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    bench.registries.digests[HUB] = None
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, HUB_DIGEST}


async def test_moved_tag_moves_the_original_name(proven: bool) -> None:
    """A pull of the tag's new content leads the original name there, too."""
    bench = bench_of(Names.BOTH)
    await prove(bench, proven)
    await bench.pull("nginx")
    bench.runtime.digest = OTHER_DIGEST
    await bench.pull("nginx")
    assert bench.runtime.records[NGINX].target.digest == OTHER_DIGEST
    assert f"docker.io/library/nginx@{OTHER_DIGEST}" in bench.runtime.names()


async def test_labels_of_the_original_name_are_kept(proven: bool) -> None:
    """A label that someone else set stays; those of the pull are added."""
    bench = bench_of(Names.BOTH)
    await prove(bench, proven)
    bench.runtime.pulled(NGINX, OTHER_DIGEST)
    own = bench.runtime.records[NGINX]
    bench.runtime.records[NGINX] = replace(own, labels={"mine": "yes"})
    await bench.pull("nginx")
    assert bench.runtime.records[NGINX].labels == {"mine": "yes", **MANAGED}


async def test_pull_again_changes_nothing(proven: bool) -> None:
    """Names that are right already are not written again."""
    bench = bench_of(Names.BOTH)
    await prove(bench, proven)
    await bench.pull("nginx")
    updated: list[str] = []
    bench.runtime.on_update = updated.append
    await bench.pull("nginx")
    assert updated == []


async def test_two_originals_of_one_image() -> None:
    """Both get their names, and the shared name goes only when the last pull of it ends."""
    bench = bench_of(Names.ORIGINAL)
    images = ["docker.io/org/app:v1", "quay.io/org/app:v1"]
    calls = [bench.service.open(PULL, pull_request(image), None) for image in images]
    decisions = [await call.decide() for call in calls]
    for call, decision in zip(calls, decisions, strict=True):
        assert isinstance(decision, Forward)
        await bench.runtime.pull_image(decision.message or b"", timeout_s=None)
        call.finished(0, False)
        await bench.service.drain()
        shared_is_there = f"{HUB}/org/app:v1" in bench.runtime.names()
        assert shared_is_there is (call is calls[0])
    assert bench.runtime.names() == {
        "docker.io/org/app:v1",
        f"docker.io/org/app@{DIGEST}",
        "quay.io/org/app:v1",
        f"quay.io/org/app@{DIGEST}",
    }


async def test_two_originals_of_one_image_at_the_same_moment() -> None:
    """In any order of their steps, both originals are there and the shared name is gone."""
    bench = bench_of(Names.ORIGINAL)
    await asyncio.gather(*(bench.pull(f"{host}/org/app:v1") for host in ("a.io", "b.io", "c.io")))
    names = {name for name in bench.runtime.names() if "@" not in name}
    assert names == {"a.io/org/app:v1", "b.io/org/app:v1", "c.io/org/app:v1"}


@pytest.mark.parametrize("mode", list(Names))
async def test_failed_pull_leaves_no_name(mode: Names, proven: bool) -> None:
    """Neither aside nor forwarded."""
    bench = bench_of(mode)
    await prove(bench, proven)
    bench.runtime.failing |= {
        HUB: failed("unexpected EOF"),
        "docker.io": failed("no such host", StatusCode.UNAVAILABLE),
    }
    await bench.pull("nginx")
    assert bench.runtime.names() == set()


async def test_forwarded_pull_that_fails_after_one_aside_leaves_the_original_named() -> None:
    """The bytes are on the node under the original name; the registry's are taken away."""
    bench = bench_of(Names.ORIGINAL)
    call = bench.service.open(PULL, pull_request("nginx"), None)
    await call.decide()
    call.finished(StatusCode.UNKNOWN, True)
    await bench.service.drain()
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_call_that_vanishes_holds_nothing() -> None:
    """A later pull of the same image is not kept from cleaning up after itself."""
    bench = bench_of(Names.ORIGINAL)
    call = bench.service.open(PULL, pull_request("nginx"), None)
    await call.decide()
    del call
    gc.collect()
    bench.runtime.records.clear()
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_naming_failure_is_a_warning_and_keeps_the_registrys_name(
    proven: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The pull succeeded and stays so; nothing is taken away."""
    bench = bench_of(Names.ORIGINAL)
    await prove(bench, proven)
    bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
    await bench.pull("nginx")
    assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert any("keeps only the name" in each.message for each in warnings)
    assert not any(each.levelno > logging.WARNING for each in caplog.records)


async def test_shim_killed_between_pull_and_naming() -> None:
    """A new shim, with all registries down, mends it at the next question."""
    bench = bench_of(Names.BOTH)
    call = bench.service.open(PULL, pull_request("nginx"), None)
    await call.decide()
    for name in (NGINX, NGINX_DIGEST):
        bench.runtime.records.pop(name, None)
    bench.registries.default = Outcome.UNREACHABLE
    bench.registries.outcomes.clear()
    bench.restart()
    assert await bench.status("nginx") == "nginx"
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}


async def test_shim_killed_between_the_two_names() -> None:
    """The digest's name was given, the one that people write was not: that is what is mended."""
    bench = bench_of(Names.BOTH)
    await bench.pull("nginx")
    del bench.runtime.records[NGINX]
    bench.restart()
    assert await bench.status("nginx") == "nginx"


async def test_mending_never_moves_a_name() -> None:
    """A question may add a name, not lead one elsewhere."""
    bench = bench_of(Names.BOTH)
    bench.runtime.pulled(AT_HUB, OTHER_DIGEST)
    bench.runtime.records[NGINX_DIGEST] = replace(bench.runtime.records[AT_HUB], name=NGINX_DIGEST)
    updated: list[str] = []
    bench.runtime.on_update = updated.append
    await bench.status("nginx")
    assert updated == []


async def test_original_is_pulled_after_all() -> None:
    """A pull from the original registry brings its own names, and none of ours."""
    bench = Bench()
    assert await bench.pull("nginx") == Forward(None)
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
    assert await bench.status("nginx") == "nginx"
    assert bench.runtime.statuses == ["nginx"]


async def test_failover_leaves_only_the_names_of_what_was_pulled() -> None:
    """The hub's failed pull leaves nothing; the mirror's is named and taken away."""
    bench = bench_of(Names.ORIGINAL)
    bench.registries.outcomes[MIRROR] = Outcome.FOUND
    bench.runtime.failing[HUB] = failed("500")
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("nginx", (NGINX_DIGEST, NGINX)),
        (f"nginx@{OTHER_DIGEST}", (f"docker.io/library/nginx@{OTHER_DIGEST}",)),
        (f"h:5000/a/b:v1@{OTHER_DIGEST}", (f"h:5000/a/b@{OTHER_DIGEST}",)),
    ],
)
def test_names_of_an_image(image: str, names: tuple[str, ...]) -> None:
    """As containerd's CRI plugin makes them, the one that people write last."""
    assert names_for(parse_reference(image), DIGEST) == names
