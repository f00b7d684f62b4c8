"""Pulls that end without an image: what callers are told, and what `fallback: deny` keeps in."""

from __future__ import annotations

import pytest

from shimcore.config import Fallback
from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import Forward, Refuse
from shimcore.images.attempts import Result
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.unit.images.fakes import (
    HUB,
    MIRROR,
    PULL,
    Bench,
    FakeRegistries,
    config_of,
    failed,
    many,
    pull_request,
    pulled_as,
)
from tests.unit.images.nginx import AT_HUB, AT_MIRROR, CALLERS, NGINX, NGINX_DIGEST, both


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


async def test_runtime_that_is_gone_is_told_as_such() -> None:
    """No failover, and no registry is blamed."""
    bench = Bench(registries=both())
    bench.runtime.down = True
    decision = await bench.decide(PULL, pull_request("nginx"))
    assert isinstance(decision, Refuse)
    assert decision.code == StatusCode.UNAVAILABLE
    assert "the runtime is down" in decision.text
    assert HUB not in decision.text


async def test_runtime_that_goes_away_in_a_pull() -> None:
    """The history says from where it was pulled, and it is counted there; nobody is blamed."""
    bench = Bench(registries=both())

    async def gone(_: cri_pb2.PullImageRequest) -> None:
        raise RuntimeUnavailableError("socket closed")

    bench.runtime.pull_steps[HUB] = gone
    decision = await bench.decide(PULL, pull_request("nginx"))
    assert decision == Refuse(StatusCode.UNAVAILABLE, "socket closed")
    [(_, record)] = bench.service._context.history.since(0)
    assert (HUB, Result.CANCELLED) in [(one.host, one.result) for one in record.attempts]
    assert bench.service.stats()["rewrites"][HUB, "cancelled"] == 1
    await bench.names.close()


async def test_a_store_that_does_not_answer_at_first() -> None:
    """It is no registry's failure: the pull goes on, and the names are given after it."""
    bench = Bench(registries=both())
    supported, answers = bench.runtime.store.supported, 0

    async def late() -> bool:
        nonlocal answers
        answers += 1
        if answers == 1:
            raise failed("no answer within 10 s", StatusCode.DEADLINE_EXCEEDED)
        return await supported()

    bench.runtime.store.supported = late  # type: ignore[method-assign]
    await bench.pull("nginx")
    assert bench.service.stats()["rewrites"] == {(HUB, "pulled"): 1}
    assert bench.runtime.names() == {NGINX, NGINX_DIGEST}


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
