"""The names that an image has after a pull."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from shimcore.config import Names
from shimcore.images import namestore
from shimcore.images.namestore import names_for
from shimcore.reference import parse_reference
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.support.clock import YEAR_S, set_by
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MANAGED,
    MIRROR,
    OTHER_DIGEST,
    PULL,
    Bench,
    answered,
    failed,
    image_id,
    pull_request,
    pulled_as,
)
from tests.unit.images.nginx import AT_HUB, AT_MIRROR, HUB_DIGEST, NGINX, NGINX_DIGEST, bench_of


async def test_both() -> None:
    """The image has the names that people write, beside the registry's."""
    bench = bench_of(Names.BOTH)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}
    assert bench.runtime.records[NGINX].labels == MANAGED
    assert bench.runtime.records[NGINX].target.digest == DIGEST


async def test_original() -> None:
    """Only the names that people write are left of the pull."""
    bench = bench_of(Names.ORIGINAL)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_a_pinned_image() -> None:
    """Labels that the runtime gives to the name people write are on the digest's name, too."""
    bench = bench_of(Names.ORIGINAL)
    pinned = {"io.cri-containerd.pinned": "pinned"}
    bench.runtime.labels_of_its_own[NGINX] = pinned
    await bench.pull("nginx")
    assert bench.runtime.records[NGINX_DIGEST].labels == {**MANAGED, **pinned}


async def test_registry() -> None:
    """Only the registry's names."""
    bench = bench_of(Names.REGISTRY)
    await bench.pull("nginx")
    assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}


@pytest.mark.parametrize("mode", [Names.BOTH, Names.ORIGINAL])
async def test_runtime_without_an_image_store(
    mode: Names, caplog: pytest.LogCaptureFixture
) -> None:
    """Acts as `registry`, and says so once."""
    bench = bench_of(mode, store=False)
    await bench.pull("nginx")
    await bench.pull("redis")
    assert AT_HUB in bench.runtime.names()
    assert NGINX not in bench.runtime.names()
    assert sum("has no way to name an image" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("image", [f"nginx@{DIGEST}", f"nginx:1.25@{DIGEST}"])
async def test_digest_is_the_only_name_of_an_image_by_digest(image: str) -> None:
    """With tag and digest both, the runtime drops the tag, and so do the names."""
    bench = bench_of(Names.ORIGINAL)
    await bench.pull(image)
    assert bench.runtime.names() == {NGINX_DIGEST}


async def test_name_that_was_there_before_stays() -> None:
    """`original` removes only what this pull brought: here the digest's name, not the tag's."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.pulled(AT_HUB, OTHER_DIGEST)
    await bench.pull("nginx")
    old = f"{HUB}/library/nginx@{OTHER_DIGEST}"
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, old}
    assert bench.runtime.deleted == [HUB_DIGEST]


async def test_preloaded_image_keeps_all_its_names() -> None:
    """Pulled again with the same content, nothing of it is the pull's."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.pulled(AT_HUB)
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST, AT_HUB, HUB_DIGEST}


async def test_a_digest_that_the_registry_did_not_tell() -> None:
    """The name's time of creation tells that it came with this pull."""
    bench = bench_of(Names.ORIGINAL)
    bench.registries.digests[HUB] = None
    await bench.pull("nginx")
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


async def test_moved_tag_moves_the_original_name() -> None:
    """A pull of the tag's new content leads the original name there, too."""
    bench = bench_of(Names.BOTH)
    await bench.pull("nginx")
    bench.runtime.digest = OTHER_DIGEST
    await bench.pull("nginx")
    assert bench.runtime.records[NGINX].target.digest == OTHER_DIGEST
    assert f"docker.io/library/nginx@{OTHER_DIGEST}" in bench.runtime.names()


async def test_labels_of_the_original_name_are_kept() -> None:
    """A label that someone else set stays; those of the pull are added."""
    bench = bench_of(Names.BOTH)
    bench.runtime.pulled(NGINX, OTHER_DIGEST)
    own = bench.runtime.records[NGINX]
    bench.runtime.records[NGINX] = replace(own, labels={"mine": "yes"})
    await bench.pull("nginx")
    assert bench.runtime.records[NGINX].labels == {"mine": "yes", **MANAGED}


async def test_pull_again_changes_nothing() -> None:
    """Names that are right already are not written again."""
    bench = bench_of(Names.BOTH)
    await bench.pull("nginx")
    updated: list[str] = []
    bench.runtime.on_update = updated.append
    await bench.pull("nginx")
    assert updated == []


async def test_two_originals_of_one_image() -> None:
    """Both get their names, one after the other, and the shared name goes each time."""
    bench = bench_of(Names.ORIGINAL)
    for image in ("docker.io/org/app:v1", "quay.io/org/app:v1"):
        await bench.decide(PULL, pull_request(image))
        assert not any(name.startswith(HUB) for name in bench.runtime.names())
    assert bench.runtime.names() == {
        "docker.io/org/app:v1",
        f"docker.io/org/app@{DIGEST}",
        "quay.io/org/app:v1",
        f"quay.io/org/app@{DIGEST}",
    }
    await bench.names.drain()


async def test_two_originals_of_one_image_at_the_same_moment() -> None:
    """In any order of their steps, both originals are there and the shared name is gone."""
    bench = bench_of(Names.ORIGINAL)
    await asyncio.gather(*(bench.pull(f"{host}/org/app:v1") for host in ("a.io", "b.io", "c.io")))
    names = {name for name in bench.runtime.names() if "@" not in name}
    assert names == {"a.io/org/app:v1", "b.io/org/app:v1", "c.io/org/app:v1"}


@pytest.mark.parametrize("mode", list(Names))
async def test_failed_pull_leaves_no_name(mode: Names) -> None:
    """Neither aside nor forwarded."""
    bench = bench_of(mode)
    bench.runtime.failing |= {
        HUB: failed("unexpected EOF"),
        "docker.io": failed("no such host", StatusCode.UNAVAILABLE),
    }
    await bench.pull("nginx")
    assert bench.runtime.names() == set()


async def test_the_answer_comes_after_the_names() -> None:
    """At the moment of the answer the image has its own names and no other, as the runtime says."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.hidden = {NGINX: 3}
    await bench.decide(PULL, pull_request("nginx"))
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
    assert bench.runtime.hidden[NGINX] == 0
    await bench.names.drain()


async def test_a_name_that_is_never_shown_costs_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are there: the caller gets its answer, and nothing is taken away."""
    monkeypatch.setattr(namestore, "SHOWN_LIMIT_S", 0.05)
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.hidden = {NGINX: 10_000}
    assert answered(await bench.decide(PULL, pull_request("nginx"))) == image_id(DIGEST)
    assert {AT_HUB, HUB_DIGEST} <= bench.runtime.names()
    assert any("does not show it" in one.message for one in caplog.records)
    await bench.names.close()


async def test_a_name_that_somebody_asked_for_stays() -> None:
    """A pull of the hub's own name, before, during or after ours, is none of our business."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.pull_s = 0.03
    await asyncio.gather(bench.pull("nginx"), bench.pull(AT_HUB))
    assert {AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST} == bench.runtime.names()
    await bench.pull("nginx")
    assert {AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST} == bench.runtime.names()


async def test_a_name_from_before_the_clock_was_set_back() -> None:
    """It was asked for as such; that its time lies ahead does not make it this pull's."""
    bench = bench_of(Names.ORIGINAL)
    await bench.pull(AT_HUB)
    for name in (AT_HUB, HUB_DIGEST):
        ahead = time.time() + 8 * 3600
        bench.runtime.records[name] = replace(bench.runtime.records[name], created_at=ahead)
    await bench.pull("nginx")
    assert {AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST} == bench.runtime.names()


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
async def test_a_clock_that_is_set_in_the_middle_of_a_pull(ahead_s: float) -> None:
    """It does not make a name the pull's that somebody had pulled as such."""
    bench = bench_of(Names.ORIGINAL)
    await bench.pull(AT_HUB)
    bench.runtime.pull_s = 0.1
    with set_by(ahead_s):
        pull = asyncio.create_task(bench.pull("nginx"))
        await asyncio.sleep(0.05)
    await pull
    assert {AT_HUB, HUB_DIGEST, NGINX, NGINX_DIGEST} == bench.runtime.names()


async def test_two_tags_of_one_digest() -> None:
    """Pulled at the same time, neither leaves the hub's name of the digest behind."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.pull_s = 0.01
    await asyncio.gather(*(bench.pull(f"nginx:{tag}") for tag in ("1", "1.27", "latest")))
    await bench.pull(f"nginx@{DIGEST}")
    assert not any(name.startswith(HUB) for name in bench.runtime.names())
    assert len(bench.runtime.names()) == 4


async def test_the_same_image_from_two_registries_at_once() -> None:
    """With two contents the last one named wins, and both callers get their answer."""
    bench = bench_of(Names.ORIGINAL)
    one = bench.decide(PULL, pull_request("nginx"))
    bench.runtime.pull_s = 0.02

    async def later() -> None:
        await asyncio.sleep(0.01)
        bench.runtime.digest = OTHER_DIGEST
        await bench.decide(PULL, pull_request("nginx", username="me", password="mine-mine"))

    await asyncio.gather(one, later())
    await bench.names.drain()
    assert not any(name.startswith(HUB) for name in bench.runtime.names())
    assert NGINX in bench.runtime.names()


async def test_the_names_were_taken_by_another_pull_and_the_hub_is_gone() -> None:
    """The image is under no name of this pull's: it has failed there, and the next one is tried."""
    bench = bench_of(Names.ORIGINAL)
    bench.registries.outcomes[MIRROR] = Outcome.FOUND
    pulled = bench.runtime.pulled

    def taken(name: str, digest: str | None = None) -> None:
        pulled(name, digest)
        if name == AT_HUB:
            for each in (AT_HUB, HUB_DIGEST):
                del bench.runtime.records[each]
            bench.runtime.failing[HUB] = failed("not found", StatusCode.NOT_FOUND)

    bench.runtime.pulled = taken  # type: ignore[method-assign]
    await bench.pull("nginx")
    assert pulled_as(bench) == [AT_HUB, AT_HUB, AT_MIRROR]
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}
    assert bench.service.stats()["rewrites"] == {(HUB, "failed"): 1, (MIRROR, "pulled"): 1}


async def test_naming_failure_is_a_warning_and_keeps_the_registrys_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The pull succeeded and stays so; nothing is taken away."""
    bench = bench_of(Names.ORIGINAL)
    bench.runtime.store_fault = failed("disk full", StatusCode.RESOURCE_EXHAUSTED)
    await bench.pull("nginx")
    assert bench.runtime.names() == {AT_HUB, HUB_DIGEST}
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert any("keeps the name" in each.message for each in warnings)
    ours = [each for each in caplog.records if each.name.startswith("shimcore")]
    assert not any(each.levelno > logging.WARNING for each in ours)


async def test_original_is_pulled_after_all() -> None:
    """A pull from the original registry brings its own names, and none of ours."""
    bench = Bench()
    await bench.pull("nginx")
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
