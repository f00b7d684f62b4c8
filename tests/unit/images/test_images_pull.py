from __future__ import annotations

import asyncio
import time

import pytest

from shimcore.config import Fallback, Names
from shimcore.images import Forward, Refuse
from shimcore.registry.answers import Outcome
from shimcore.runtime import StatusCode
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MIRROR,
    PULL,
    Bench,
    FakeRegistries,
    config_of,
    failed,
    pull_request,
    sent,
)

NGINX = "docker.io/library/nginx:latest"
AT_HUB = f"{HUB}/library/nginx:latest"
AT_MIRROR = f"{MIRROR}/library/nginx:latest"
CALLERS = {"username": "kubelet", "password": "callers-own-secret"}


def both() -> FakeRegistries:
    return FakeRegistries({HUB: Outcome.FOUND, MIRROR: Outcome.FOUND})


async def test_goes_on_with_the_best_and_its_credentials() -> None:
    """The hub's name and login; nothing of what the caller sent."""
    bench = Bench(registries=both())
    request = sent(await bench.pull("nginx", **CALLERS))
    assert request.image.image == AT_HUB
    assert (request.auth.username, request.auth.password) == ("hub", "hub-secret")
    assert request.auth.server_address == f"http://{HUB}"
    assert b"callers-own-secret" not in request.SerializeToString()


async def test_registry_without_credentials_gets_none() -> None:
    """The caller's credentials belong to the original registry and are taken out."""
    bench = Bench(registries=FakeRegistries({"last.local:5000": Outcome.FOUND}))
    request = sent(await bench.pull("nginx", **CALLERS))
    assert request.image.image == "last.local:5000/library/nginx:latest"
    assert not request.HasField("auth")


async def test_proven_registry_costs_no_pull_on_the_side() -> None:
    """The first pull is tried on the side; later ones go straight on, without any question."""
    bench = Bench(registries=both())
    await bench.pull("nginx")
    assert len(bench.runtime.pulls) == 2
    call = bench.service.open(PULL, pull_request("nginx"), None)
    decision = call.decide_now()
    assert sent(decision or Forward(None)).image.image == AT_HUB
    other = await bench.pull("redis")
    assert sent(other).image.image == f"{HUB}/library/redis:latest"
    assert len(bench.runtime.pulls) == 3


async def test_failed_forwarded_pull_takes_the_proof_and_the_answer_away() -> None:
    """The next pull of the image asks anew, tries on the side, and fails over."""
    bench = Bench(registries=both())
    await bench.pull("nginx")
    bench.runtime.failing[HUB] = failed("connection refused")
    await bench.pull("nginx")
    assert bench.service.stats()["rewrites"][HUB, "failed"] == 1
    asked = len(bench.registries.asked)
    request = sent(await bench.pull("nginx"))
    assert request.image.image == AT_MIRROR
    assert len(bench.registries.asked) > asked


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
async def test_any_failure_on_the_side_moves_on_to_the_next(fault: Exception) -> None:
    """The call goes on with the mirror's name; it never sees the hub's failure."""
    bench = Bench(registries=both())
    bench.runtime.failing[HUB] = fault
    request = sent(await bench.pull("nginx", **CALLERS))
    assert request.image.image == AT_MIRROR
    assert request.auth.password == "mirror-secret"
    assert [pull.image.image for pull in bench.runtime.pulls] == [AT_HUB, AT_MIRROR, AT_MIRROR]


async def test_last_place_is_the_original_with_the_callers_own_credentials() -> None:
    """When every registry fails, the request goes on as it came."""
    bench = Bench(registries=both())
    bench.runtime.failing |= {HUB: failed("500"), MIRROR: failed("500")}
    assert await bench.pull("nginx", **CALLERS) == Forward(None)
    assert bench.runtime.pulls[-1].auth.password == "callers-own-secret"


async def test_candidate_that_was_not_found_is_not_pulled() -> None:
    """Only registries that have the image are tried."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.failing[HUB] = failed("500")
    assert await bench.pull("nginx") == Forward(None)
    assert [pull.image.image for pull in bench.runtime.pulls] == [AT_HUB, "nginx"]


async def test_remembered_answer_that_fails_is_asked_again() -> None:
    """The mirror got the image after the answer was remembered; the failover finds it there."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("nginx")
    bench.service._parts.proven.clear()
    bench.registries.outcomes[MIRROR] = Outcome.FOUND
    bench.runtime.failing[HUB] = failed("500")
    assert sent(await bench.pull("nginx")).image.image == AT_MIRROR


async def test_hung_pull_is_given_up_for_the_next_within_the_deadline() -> None:
    """A registry that stops in the middle of a blob has its share of the time, not all."""
    bench = Bench(config=config_of(timeout_s=3), registries=both())
    bench.runtime.hanging.add(HUB)
    started = time.monotonic()
    request = sent(await bench.pull("nginx"))
    assert request.image.image == AT_MIRROR
    assert time.monotonic() - started < 2.9
    assert bench.runtime.cancelled == [AT_HUB]
    assert (HUB, False, False) in bench.registries.reports


async def test_single_candidate_may_use_all_the_time() -> None:
    """Slow is not dead: with nowhere better to go, a large image is not cut short."""
    bench = Bench(config=config_of(timeout_s=2), registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.pull_s = 1.1
    assert sent(await bench.decide(PULL, pull_request("nginx"))).image.image == AT_HUB
    await bench.service.drain()


async def test_shorter_deadline_of_the_caller_holds() -> None:
    """With every registry hung, the original goes on before the caller's time is over."""
    bench = Bench(registries=both())
    bench.runtime.hanging |= {HUB, MIRROR}
    started = time.monotonic()
    assert await bench.decide(PULL, pull_request("nginx"), 0.3) == Forward(None)
    assert time.monotonic() - started < 10


async def test_cancelled_caller_ends_work_on_the_side_at_once() -> None:
    """The pull in the runtime is cancelled, no registry is blamed, and nothing is left running."""
    bench = Bench(registries=both())
    bench.runtime.hanging.add(HUB)
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert bench.runtime.cancelled == [AT_HUB]
    assert bench.registries.reports == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_equal_pulls_on_the_side_are_one() -> None:
    """Ten callers with the same request make one pull; one cancelled caller ends nothing."""
    bench = Bench(registries=both())
    bench.runtime.pull_s = 0.05
    tasks = [asyncio.create_task(bench.decide(PULL, pull_request("nginx"))) for _ in range(10)]
    await asyncio.sleep(0.02)
    tasks[0].cancel()
    decisions = await asyncio.gather(*tasks[1:])
    assert {sent(decision).image.image for decision in decisions} == {AT_HUB}
    assert len(bench.runtime.pulls) == 1
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await bench.service.drain()


@pytest.mark.parametrize(
    "code", [StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE]
)
async def test_callers_cancellation_is_not_the_registrys_fault(code: StatusCode) -> None:
    """The breaker is told nothing; the registry only has to prove itself again."""
    bench = Bench(registries=both())
    await bench.pull("nginx")
    bench.registries.reports.clear()
    call = bench.service.open(PULL, pull_request("nginx"), None)
    assert call.decide_now() is not None
    call.finished(code, True)
    assert bench.registries.reports == []
    assert HUB not in bench.service._parts.proven


async def test_runtime_that_is_gone_is_asked_by_the_call_itself() -> None:
    """No failover: the caller hears of it from where it comes."""
    bench = Bench(registries=both())
    bench.runtime.down = True
    decision = await bench.decide(PULL, pull_request("nginx"))
    assert sent(decision).image.image == AT_HUB
    assert bench.registries.reports == []


async def test_absent_everywhere_goes_on_as_it_came() -> None:
    """The original name and the caller's credentials, byte for byte; remembered."""
    bench = Bench()
    assert await bench.pull("nginx", **CALLERS) == Forward(None)
    call = bench.service.open(PULL, pull_request("nginx"), None)
    assert call.decide_now() == Forward(None)


@pytest.mark.parametrize(
    "image", ["", "nginx:UP per", "docker.io/Upper", "sha256:" + "1" * 64, "1" * 64, "a b"]
)
@pytest.mark.parametrize("fallback", list(Fallback))
async def test_what_is_no_name_is_for_the_runtime_to_judge(image: str, fallback: Fallback) -> None:
    """Even under `deny`: without a name nothing can be pulled by it."""
    bench = Bench(config=config_of(fallback=fallback))
    call = bench.service.open(PULL, pull_request(image), None)
    assert call.decide_now() == Forward(None)
    assert bench.registries.asked == []


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
        assert sent(await bench.pull("nginx")).image.image == AT_HUB
        assert [host for host, _ in bench.registries.asked] == [HUB]

    async def test_a_configured_public_registry_is_the_last_place_with_its_credentials(
        self,
    ) -> None:
        """When the hub has it not, the original name goes on, with the configured login."""
        bench = Bench(config=config_of(self.PUBLIC, fallback=Fallback.DENY))
        request = sent(await bench.pull("nginx"))
        assert request.image.image == "nginx"
        assert (request.auth.username, request.auth.password) == ("paid", "hub-account")

    async def test_denied_fallback_does_not_touch_it(self) -> None:
        """A configured registry is a place to pull from."""
        bench = Bench(config=config_of(fallback=Fallback.DENY))
        decision = await bench.decide(PULL, pull_request("last.local:5000/app:v1"))
        assert decision == Forward(None)


class TestDeny:
    config = config_of(fallback=Fallback.DENY)

    async def test_refusal_names_every_registry_and_its_reason(self) -> None:
        """Absent everywhere is NOT_FOUND."""
        bench = Bench(config=self.config)
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.NOT_FOUND
        for host in (HUB, MIRROR, "last.local:5000"):
            assert f"{host}: absent" in decision.text

    async def test_refusal_while_a_registry_cannot_be_asked_is_unavailable(self) -> None:
        """kubelet tries again; the text says what is wrong."""
        bench = Bench(config=self.config)
        bench.registries.outcomes[MIRROR] = Outcome.UNREACHABLE
        bench.registries.detail = "connection refused"
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.UNAVAILABLE
        assert f"{MIRROR}: unreachable (connection refused)" in decision.text

    async def test_failed_pulls_end_in_a_refusal_and_the_original_never_gets_out(self) -> None:
        """Each registry's own failure is told, without the secrets in it."""
        bench = Bench(config=self.config, registries=both())
        bench.runtime.failing |= {
            HUB: failed('Get "https://u:hub-secret@h/blob?sig=abc": connection refused'),
            MIRROR: failed("mirror-secret was 401"),
        }
        decision = await bench.pull("nginx", **CALLERS)
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.UNAVAILABLE
        assert "connection refused" in decision.text
        assert "*** was 401" in decision.text
        assert "sig=abc" not in decision.text
        assert "hub-secret" not in decision.text
        assert {pull.image.image for pull in bench.runtime.pulls} == {AT_HUB, AT_MIRROR}

    async def test_only_place_is_not_tried_on_the_side(self) -> None:
        """With one registry and no other place, the runtime's own answer is the best."""
        config = config_of("address: http://sealos.hub:5000\nfallback: deny\n")
        bench = Bench(config=config, registries=both())
        await bench.pull("nginx")
        assert len(bench.runtime.pulls) == 1

    async def test_time_over_is_a_refusal(self) -> None:
        """Registries that hang do not let the original out either."""
        bench = Bench(config=self.config, registries=both())
        bench.runtime.hanging |= {HUB, MIRROR}
        decision = await bench.decide(PULL, pull_request("nginx"), 0.2)
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.UNAVAILABLE
        assert HUB in decision.text

    async def test_unreadable_request_is_refused(self) -> None:
        """A name that we cannot read must not be read by the runtime."""
        bench = Bench(config=self.config)
        decision = await bench.decide(PULL, b"\x0a\xff")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.INVALID_ARGUMENT

    async def test_image_that_no_registry_serves_is_refused(self) -> None:
        """With every registry kept to other domains there is no place at all."""
        text = 'address: http://sealos.hub:5000\nfallback: deny\nhub: {domains: ["quay.io"]}\n'
        decision = await Bench(config=config_of(text)).pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.NOT_FOUND
        assert f"{HUB}: " in decision.text


async def test_dependency_confusion() -> None:
    """docker.io in the list is never asked for quay.io's image, nor pulled from for it.

    The attack: someone registers org/app on Docker Hub and waits for a node that looks there
    when quay.io/org/app is not on the hub.
    """
    text = "address: http://sealos.hub:5000\nregistries: [{address: 'https://docker.io'}]\n"
    registries = FakeRegistries({"docker.io": Outcome.FOUND, HUB: Outcome.ABSENT})
    bench = Bench(config=config_of(text), registries=registries)
    assert await bench.pull("quay.io/org/app:v1") == Forward(None)
    assert [host for host, _ in registries.asked] == [HUB]
    assert [pull.image.image for pull in bench.runtime.pulls] == ["quay.io/org/app:v1"]
    assert await bench.status("quay.io/org/app:v1") == "quay.io/org/app:v1"
    assert not any(name.startswith("docker.io/") for name in bench.runtime.statuses)


async def test_domains_apart_never_meet() -> None:
    """With `{domain}` in the path, two domains' org/app are two images."""
    text = 'address: http://sealos.hub:5000\nhub: {path: "{domain}/{path}"}\n'
    bench = Bench(config=config_of(text), registries=FakeRegistries({HUB: Outcome.FOUND}))
    one = sent(await bench.pull("quay.io/org/app:v1")).image.image
    two = sent(await bench.pull("docker.io/org/app:v1")).image.image
    assert (one, two) == (f"{HUB}/quay.io/org/app:v1", f"{HUB}/docker.io/org/app:v1")


@pytest.mark.parametrize("mode", list(Names))
async def test_digest_is_never_dropped(mode: Names) -> None:
    """Tag and digest both go along to the candidate."""
    bench = Bench(config=config_of(names=mode), registries=both())
    request = sent(await bench.pull(f"nginx:1.25@{DIGEST}"))
    assert request.image.image == f"{HUB}/library/nginx:1.25@{DIGEST}"


async def test_v1alpha2_is_the_same() -> None:
    """The older CRI version gets the same decision."""
    bench = Bench(registries=both())
    path = "/runtime.v1alpha2.ImageService/PullImage"
    assert sent(await bench.decide(path, pull_request("nginx"))).image.image == AT_HUB
    await bench.service.drain()
