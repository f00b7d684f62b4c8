"""PullImage: from which registry, under which name, and with whose credentials."""

from __future__ import annotations

import asyncio
import time

import pytest

from shimcore.config import Fallback, Names
from shimcore.heldcall import Forward
from shimcore.images import progress, transaction
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.values import Ingest
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MIRROR,
    PULL,
    THREE,
    Bench,
    FakeRegistries,
    answered,
    config_of,
    failed,
    image_id,
    pull_request,
    pulled_as,
    sent,
)
from tests.unit.images.nginx import AT_HUB, AT_MIRROR, CALLERS, both


async def test_the_best_registry_with_its_own_credentials() -> None:
    """The hub's name and login, and nothing of what the caller sent; the runtime's answer."""
    bench = Bench(registries=both())
    assert answered(await bench.pull("nginx", **CALLERS)) == image_id(DIGEST)
    [request] = bench.runtime.pulls
    assert request.image.image == AT_HUB
    assert (request.auth.username, request.auth.password) == ("hub", "hub-secret")
    assert request.auth.server_address == f"http://{HUB}"
    assert b"callers-own-secret" not in request.SerializeToString()


async def test_registry_without_credentials_gets_none() -> None:
    """The caller's credentials belong to the original registry and are taken out."""
    bench = Bench(registries=FakeRegistries({"last.local:5000": Outcome.FOUND}))
    await bench.pull("nginx", **CALLERS)
    [request] = bench.runtime.pulls
    assert request.image.image == "last.local:5000/library/nginx:latest"
    assert not request.HasField("auth")


async def test_a_remembered_answer_asks_no_registry() -> None:
    """The second pull of an image costs no question."""
    bench = Bench(registries=both())
    await bench.pull("nginx")
    asked = len(bench.registries.asked)
    await bench.pull("nginx")
    assert len(bench.registries.asked) == asked
    assert pulled_as(bench) == [AT_HUB, AT_HUB]


FAULTS = [
    failed("content digest sha256:1: not found", StatusCode.NOT_FOUND),
    failed("unexpected status from GET request: 500 Internal Server Error"),
    failed("dial tcp 10.0.0.1:5000: connect: connection refused"),
    failed("net/http: request canceled (i/o timeout)"),
    failed("failed to authorize: 401 Unauthorized"),
    failed("429 Too Many Requests"),
    failed("context deadline exceeded", StatusCode.DEADLINE_EXCEEDED),
    failed("registry unavailable", StatusCode.UNAVAILABLE),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.details[:30])
@pytest.mark.parametrize("pulled_before", [False, True])
async def test_any_failure_moves_on_to_the_next(fault: Exception, pulled_before: bool) -> None:
    """Every time, also of a hub that has just worked: the caller never sees its failure."""
    bench = Bench(registries=both())
    if pulled_before:
        await bench.pull("nginx")
        await bench.pull("other")
        bench.runtime.pulls.clear()
    bench.runtime.failing[HUB] = fault
    assert answered(await bench.pull("nginx", **CALLERS)) == image_id(DIGEST)
    assert pulled_as(bench) == [AT_HUB, AT_MIRROR]
    assert bench.runtime.pulls[-1].auth.password == "mirror-secret"


async def test_last_place_is_the_original_with_the_callers_own_credentials() -> None:
    """When every registry fails, the request goes out as it came, once."""
    bench = Bench(registries=both())
    bench.runtime.failing |= {HUB: failed("500"), MIRROR: failed("500")}
    assert answered(await bench.pull("nginx", **CALLERS)) == image_id(DIGEST)
    assert pulled_as(bench) == [AT_HUB, AT_MIRROR, "nginx"]
    assert bench.runtime.pulls[-1].SerializeToString() == pull_request("nginx", **CALLERS)


async def test_candidate_that_was_not_found_is_not_pulled() -> None:
    """Only registries that have the image are tried."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.failing[HUB] = failed("500")
    await bench.pull("nginx")
    assert pulled_as(bench) == [AT_HUB, "nginx"]


async def test_remembered_answer_that_fails_is_asked_again() -> None:
    """The mirror got the image after the answer was remembered; the failover finds it there."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("nginx")
    bench.registries.outcomes[MIRROR] = Outcome.FOUND
    bench.runtime.failing[HUB] = failed("500")
    await bench.pull("nginx")
    assert pulled_as(bench) == [AT_HUB, AT_HUB, AT_MIRROR]


@pytest.mark.parametrize("mirror", [Outcome.ABSENT, Outcome.FOUND])
async def test_remembered_answer_that_stands_still(
    mirror: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left where another registry has the image now, and let finish where none has."""
    monkeypatch.setattr(progress, "LOOK_S", 0.05)
    monkeypatch.setattr(transaction, "LOOK_S", 0.05)
    config = config_of(f"{THREE}stallTimeout: 1s\n", fallback=Fallback.DENY)
    bench = Bench(config=config, registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("nginx")
    bench.registries.outcomes[MIRROR] = mirror
    bench.registries.delays_s["last.local:5000"] = 0.2  # it is not waited for as if it had it
    bench.runtime.listed = [Ingest(f"manifest-{DIGEST}", 300, 0, time.time() + 60)]
    bench.runtime.pull_steps[HUB] = lambda _: asyncio.sleep(1.6)
    await bench.pull("nginx")
    assert pulled_as(bench) == [AT_HUB, AT_HUB, AT_MIRROR][: 3 if mirror is Outcome.FOUND else 2]


async def test_the_callers_metadata_goes_along() -> None:
    """Trace context reaches the runtime with every pull of the call."""
    bench = Bench(registries=both())
    bench.runtime.failing[HUB] = failed("500")
    trace = (("traceparent", "00-1-2-01"), ("grpc-trace-bin", b"\x00\x01"))
    call = bench.service.open(PULL, pull_request("nginx"), None, trace)
    await call.decide()
    assert bench.runtime.metadata == [trace, trace]
    await bench.names.drain()


async def test_excluded_image_is_never_rewritten() -> None:
    """Nor refused under `deny`: its own registry is where it is meant to come from."""
    config = config_of(exclude=("docker.io/library/*",), fallback=Fallback.DENY)
    bench = Bench(config=config, registries=both())
    call = bench.service.open(PULL, pull_request("nginx"), None)
    assert call.decide_now() == Forward(None)


class TestConfiguredHost:
    async def test_credentials_are_added_when_the_caller_sent_none(self) -> None:
        """An image that names the mirror is pulled there, with the mirror's login."""
        bench = Bench(registries=both())
        call = bench.service.open(PULL, pull_request(f"{MIRROR}/app:v1"), None)
        request = sent(call.decide_now() or Forward(None))
        assert request.image.image == f"{MIRROR}/app:v1"
        assert request.auth.password == "mirror-secret"
        assert bench.registries.asked == []

    async def test_empty_credentials_are_none(self) -> None:
        """A server address alone is no login."""
        bench = Bench()
        decision = await bench.decide(
            PULL, pull_request(f"{HUB}/app:v1", server_address="https://elsewhere")
        )
        assert sent(decision).auth.username == "hub"
        assert sent(decision).auth.server_address == f"http://{HUB}"

    @pytest.mark.parametrize("field", ["username", "auth", "identity_token", "registry_token"])
    async def test_callers_credentials_stay(self, field: str) -> None:
        """Whatever kind of login the caller sent, it goes on as it came."""
        bench = Bench()
        decision = await bench.decide(PULL, pull_request(f"{HUB}/app:v1", **{field: "x"}))
        assert decision == Forward(None)

    PUBLIC = """
address: http://sealos.hub:5000
registries:
- {address: "https://docker.io", auth: "paid:hub-account"}
"""

    async def test_a_configured_public_registry_does_not_keep_its_images_from_the_hub(self) -> None:
        """`nginx` names docker.io too; with docker.io configured the hub is still asked first."""
        bench = Bench(config=config_of(self.PUBLIC), registries=both())
        await bench.pull("nginx")
        assert pulled_as(bench) == [AT_HUB]
        assert [host for host, _ in bench.registries.asked] == [HUB]

    async def test_a_configured_public_registry_is_the_last_place_with_its_credentials(
        self,
    ) -> None:
        """When the hub has it not, the original name goes out, with the configured login.

        The whole name: CRI-O may find a name without a registry in another one.
        """
        bench = Bench(config=config_of(self.PUBLIC, fallback=Fallback.DENY))
        await bench.pull("nginx")
        [request] = bench.runtime.pulls
        assert request.image.image == "docker.io/library/nginx:latest"
        assert (request.auth.username, request.auth.password) == ("paid", "hub-account")

    async def test_denied_fallback_does_not_touch_it(self) -> None:
        """A configured registry is a place to pull from."""
        bench = Bench(config=config_of(fallback=Fallback.DENY))
        decision = await bench.decide(PULL, pull_request("last.local:5000/app:v1"))
        assert decision == Forward(None)


async def test_dependency_confusion() -> None:
    """docker.io in the list is never asked for quay.io's image, nor pulled from for it.

    The attack: someone registers org/app on Docker Hub and waits for a node that looks there
    when quay.io/org/app is not on the hub.
    """
    text = "address: http://sealos.hub:5000\nregistries: [{address: 'https://docker.io'}]\n"
    registries = FakeRegistries({"docker.io": Outcome.FOUND, HUB: Outcome.ABSENT})
    bench = Bench(config=config_of(text), registries=registries)
    await bench.pull("quay.io/org/app:v1")
    assert [host for host, _ in registries.asked] == [HUB]
    assert pulled_as(bench) == ["quay.io/org/app:v1"]
    assert await bench.status("quay.io/org/app:v1") == "quay.io/org/app:v1"
    assert not any(name.startswith("docker.io/") for name in bench.runtime.statuses)


async def test_domains_apart_never_meet() -> None:
    """With `{domain}` in the path, two domains' org/app are two images."""
    text = 'address: http://sealos.hub:5000\nhub: {path: "{domain}/{path}"}\n'
    bench = Bench(config=config_of(text), registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("quay.io/org/app:v1")
    await bench.pull("docker.io/org/app:v1")
    assert pulled_as(bench) == [f"{HUB}/quay.io/org/app:v1", f"{HUB}/docker.io/org/app:v1"]


@pytest.mark.parametrize("mode", list(Names))
async def test_digest_is_never_dropped(mode: Names) -> None:
    """Tag and digest both go along to the candidate."""
    bench = Bench(config=config_of(names=mode), registries=both())
    await bench.pull(f"nginx:1.25@{DIGEST}")
    assert pulled_as(bench) == [f"{HUB}/library/nginx:1.25@{DIGEST}"]


async def test_v1alpha2_is_the_same() -> None:
    """The older CRI version gets the same answer."""
    bench = Bench(registries=both())
    path = "/runtime.v1alpha2.ImageService/PullImage"
    assert answered(await bench.decide(path, pull_request("nginx"))) == image_id(DIGEST)
    await bench.names.drain()
