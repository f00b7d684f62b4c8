from __future__ import annotations

import asyncio
import logging

import pytest

from shimcore.config import Fallback, Names
from shimcore.heldcall import Answer, Forward, Refuse
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from tests.unit.images.fakes import (
    DIGEST,
    HUB,
    MIRROR,
    PULL,
    Bench,
    FakeRegistries,
    answered,
    config_of,
    failed,
    image_id,
    many,
    pull_request,
    pulled_as,
    sent,
)

NGINX = "docker.io/library/nginx:latest"
AT_HUB = f"{HUB}/library/nginx:latest"
AT_MIRROR = f"{MIRROR}/library/nginx:latest"
CALLERS = {"username": "kubelet", "password": "callers-own-secret"}


def both() -> FakeRegistries:
    return FakeRegistries({HUB: Outcome.FOUND, MIRROR: Outcome.FOUND})


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


class TestWhenAllFails:
    async def test_the_runtimes_words_come_first_and_every_reason_after_them(self) -> None:
        """kubelet looks at the beginning; an operator reads why the hub was not used."""
        bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND, MIRROR: Outcome.UNREACHABLE}))
        bench.registries.detail = "connection refused"
        bench.runtime.failing |= {
            HUB: failed("blob unknown"),
            "docker.io": failed("RegistryUnavailable: no such host", StatusCode.UNAVAILABLE),
        }
        decision = await bench.pull("nginx", **CALLERS)
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.UNAVAILABLE
        assert decision.text.startswith("RegistryUnavailable: no such host; image-cri-shim: ")
        assert f"{HUB}: pull failed (blob unknown)" in decision.text
        assert f"{MIRROR}: unreachable (connection refused)" in decision.text
        assert "last.local:5000: absent" in decision.text

    async def test_absent_everywhere_ends_with_the_originals_failure(self) -> None:
        """And says of each registry that it has it not."""
        bench = Bench()
        bench.runtime.failing["docker.io"] = failed("not found", StatusCode.NOT_FOUND)
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.NOT_FOUND
        assert decision.text.startswith("not found; image-cri-shim: ")
        assert f"{HUB}: absent" in decision.text

    async def test_a_reason_that_is_cut_keeps_its_tail(self) -> None:
        """The cause stands at the end of what Go says."""
        bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
        cause = "http: server gave HTTP response to HTTPS client"
        bench.runtime.failing |= {
            HUB: failed("failed to pull and unpack image: " + "x" * 400 + ": " + cause),
            "docker.io": failed("y" * 5000),
        }
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert cause in decision.text
        assert len(decision.text.encode()) <= 4096

    async def test_many_registries_share_the_room(self) -> None:
        """With forty of them every host is still named, within 2 KiB for all."""
        bench = Bench(config=config_of(many(40)))
        bench.registries.default = Outcome.UNREACHABLE
        bench.registries.detail = "dial tcp: connect: connection refused " * 10
        bench.runtime.failing["docker.io"] = failed("no such host")
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert all(f"m{i}.local" in decision.text for i in range(40))
        assert len(decision.text.encode()) < 2048 + 100

    async def test_no_secret_is_told(self) -> None:
        """Neither the registry's, nor a URL's query."""
        bench = Bench(registries=both())
        bench.runtime.failing |= {
            HUB: failed('Get "https://u:hub-secret@h/blob?sig=abc": connection refused'),
            MIRROR: failed("mirror-secret was 401"),
            "docker.io": failed("denied"),
        }
        decision = await bench.pull("nginx", **CALLERS)
        assert isinstance(decision, Refuse)
        assert "*** was 401" in decision.text
        assert "sig=abc" not in decision.text
        assert "hub-secret" not in decision.text


class TestSharing:
    async def test_equal_pulls_are_one(self) -> None:
        """Ten callers with equal requests make one pull; one that goes ends only its own wait."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.05
        tasks = [asyncio.create_task(bench.decide(PULL, pull_request("nginx"))) for _ in range(10)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        decisions = await asyncio.gather(*tasks[1:])
        assert {answered(decision) for decision in decisions} == {image_id(DIGEST)}
        assert pulled_as(bench) == [AT_HUB]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await bench.service.drain()

    async def test_the_sandboxs_metadata_makes_no_difference(self) -> None:
        """Pods differ in it, and in annotations that are nothing to the runtime."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.02
        requests = [_for_pod(f"pod-{i}", {"team": str(i)}) for i in range(5)]
        await asyncio.gather(*(bench.decide(PULL, request) for request in requests))
        assert pulled_as(bench) == [AT_HUB]
        await bench.service.drain()

    async def test_another_snapshotter_is_another_pull(self) -> None:
        """A runtime handler, or its old annotation, unpacks elsewhere."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.02
        handler = cri_pb2.PullImageRequest.FromString(pull_request("nginx"))
        handler.image.runtime_handler = "kata"
        requests = [
            pull_request("nginx"),
            handler.SerializeToString(),
            _for_pod("p", {"io.containerd.cri.runtime-handler": "kata"}),
        ]
        await asyncio.gather(*(bench.decide(PULL, request) for request in requests))
        assert pulled_as(bench) == [AT_HUB] * 3
        await bench.service.drain()

    async def test_two_tenants(self) -> None:
        """A private image at its own registry goes to the pod with the login, not to the other."""
        bench = Bench()
        bench.runtime.pull_s = 0.02

        async def registry(request: cri_pb2.PullImageRequest) -> None:
            if request.auth.password != "callers-own-secret":
                raise failed("401 Unauthorized", StatusCode.UNAUTHENTICATED)

        bench.runtime.pull_steps["docker.io"] = registry
        asked = [pull_request("team/private"), pull_request("team/private", **CALLERS)]
        nobody, owner = await asyncio.gather(*(bench.decide(PULL, one) for one in asked))
        assert isinstance(nobody, Refuse)
        assert nobody.code == StatusCode.UNAUTHENTICATED
        assert isinstance(owner, Answer)

    async def test_each_callers_deadline_is_its_own(self) -> None:
        """One is over, and says what was being done; the other gets the image."""
        bench = Bench(registries=both())
        bench.runtime.pull_s = 0.1
        patient = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
        hasty = await bench.decide(PULL, pull_request("nginx"), 0.02)
        assert isinstance(hasty, Refuse)
        assert hasty.code == StatusCode.DEADLINE_EXCEEDED
        assert answered(await patient) == image_id(DIGEST)
        assert pulled_as(bench) == [AT_HUB]
        await bench.service.drain()


def _for_pod(name: str, annotations: dict[str, str]) -> bytes:
    request = cri_pb2.PullImageRequest.FromString(pull_request("nginx"))
    request.sandbox_config.metadata.name = name
    request.sandbox_config.metadata.namespace = "default"
    request.sandbox_config.annotations.update(annotations)
    return request.SerializeToString()


async def test_cancelled_caller_ends_work_on_the_side_at_once() -> None:
    """The pull in the runtime is cancelled, and nothing is left running but the look after it."""
    bench = Bench(registries=both(), config=config_of(names=Names.BOTH))
    bench.runtime.hanging.add(HUB)
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert bench.runtime.cancelled == [AT_HUB]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_runtime_that_is_gone_is_told_as_such() -> None:
    """No failover, and no registry is blamed."""
    bench = Bench(registries=both())
    bench.runtime.down = True
    decision = await bench.decide(PULL, pull_request("nginx"))
    assert isinstance(decision, Refuse)
    assert decision.code == StatusCode.UNAVAILABLE
    assert "the runtime is down" in decision.text
    assert HUB not in decision.text


async def test_the_callers_metadata_goes_along() -> None:
    """Trace context reaches the runtime with every pull of the call."""
    bench = Bench(registries=both())
    bench.runtime.failing[HUB] = failed("500")
    trace = (("traceparent", "00-1-2-01"), ("grpc-trace-bin", b"\x00\x01"))
    call = bench.service.open(PULL, pull_request("nginx"), None, trace)
    await call.decide()
    assert bench.runtime.metadata == [trace, trace]
    await bench.service.drain()


@pytest.mark.parametrize(
    "image", ["", "nginx:UP per", "docker.io/Upper", "sha256:" + "1" * 64, "1" * 64, "a b"]
)
class TestNoName:
    async def test_is_for_the_runtime_to_judge(self, image: str) -> None:
        """It goes on as it came, and no registry is asked."""
        bench = Bench()
        call = bench.service.open(PULL, pull_request(image), None)
        assert call.decide_now() == Forward(None)
        assert bench.registries.asked == []

    async def test_is_refused_under_deny(self, image: str) -> None:
        """The runtime would look for it on Docker Hub."""
        bench = Bench(config=config_of(fallback=Fallback.DENY))
        decision = bench.service.open(PULL, pull_request(image), None).decide_now()
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.INVALID_ARGUMENT
        assert decision.text.startswith("image-cri-shim: ")


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
        """When the hub has it not, the original name goes out, with the configured login."""
        bench = Bench(config=config_of(self.PUBLIC, fallback=Fallback.DENY))
        await bench.pull("nginx")
        [request] = bench.runtime.pulls
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
        """Absent everywhere is NOT_FOUND; the runtime is not asked."""
        bench = Bench(config=self.config)
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.NOT_FOUND
        for host in (HUB, MIRROR, "last.local:5000"):
            assert f"{host}: absent" in decision.text
        assert pulled_as(bench) == []

    async def test_refusal_while_a_registry_cannot_be_asked_is_unavailable(self) -> None:
        """kubelet tries again; the text says what is wrong."""
        bench = Bench(config=self.config)
        bench.registries.outcomes[MIRROR] = Outcome.UNREACHABLE
        bench.registries.detail = "connection refused"
        decision = await bench.pull("nginx")
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.UNAVAILABLE
        assert f"{MIRROR}: unreachable (connection refused)" in decision.text

    async def test_failed_pulls_end_with_the_runtimes_status_and_the_original_stays_in(
        self,
    ) -> None:
        """The last pull's own status and words, then each registry's failure."""
        bench = Bench(config=self.config, registries=both())
        bench.runtime.failing |= {
            HUB: failed("connection refused"),
            MIRROR: failed("blob unknown", StatusCode.NOT_FOUND),
        }
        decision = await bench.pull("nginx", **CALLERS)
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.NOT_FOUND
        assert decision.text.startswith("blob unknown; image-cri-shim: ")
        assert f"{HUB}: pull failed (connection refused)" in decision.text
        assert set(pulled_as(bench)) == {AT_HUB, AT_MIRROR}

    async def test_the_callers_deadline_is_a_refusal(self) -> None:
        """Registries that hang do not let the original out either."""
        bench = Bench(config=self.config, registries=both())
        bench.runtime.hanging |= {HUB, MIRROR}
        decision = await bench.decide(PULL, pull_request("nginx"), 0.2)
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.DEADLINE_EXCEEDED
        assert pulled_as(bench) == [AT_HUB]

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
    await bench.service.drain()


class TestLine:
    async def test_one_line_for_a_pull_after_its_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Outcome, pod, registry, bytes and seconds; at INFO while nothing is amiss."""
        caplog.set_level(logging.DEBUG, "shimcore.images")
        bench = Bench(registries=both())
        call = bench.service.open(PULL, _for_pod("web-1", {}), None)
        await call.decide()
        await bench.service.drain()
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.INFO
        for part in (
            "outcome=pulled",
            "pod=default/web-1",
            f"registry={HUB}",
            "bytes=",
            "seconds=",
        ):
            assert part in line.message

    async def test_a_registry_that_was_passed_over_is_a_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With its reason, so that `journalctl -p warning` shows it."""
        bench = Bench(registries=both())
        bench.runtime.failing[HUB] = failed("blob unknown")
        await bench.pull("nginx")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.WARNING
        assert f"{HUB}: pull failed (blob unknown)" in line.message

    async def test_an_image_that_is_elsewhere_is_no_warning(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That the hub has it not is told, but nothing is wrong."""
        caplog.set_level(logging.INFO, "shimcore.images")
        bench = Bench(registries=FakeRegistries({MIRROR: Outcome.FOUND}))
        await bench.pull("nginx")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.INFO
        assert f"{HUB}: absent" in line.message

    async def test_a_failed_pull_is_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        """Of a call that went on as it came, too."""
        bench = Bench()
        bench.runtime.failing[HUB] = RuntimeCallError(StatusCode.NOT_FOUND, "manifest unknown")
        await bench.pull(f"{HUB}/team/app:1")
        [line] = [one for one in caplog.records if "call=PullImage" in one.message]
        assert line.levelno == logging.WARNING
        assert "outcome=failed(5)" in line.message
        assert "manifest unknown" in line.message
