"""Pulls on a runtime that does not show how far they are: CRI-O, or Docker behind its adapter."""

from __future__ import annotations

import asyncio

import pytest

from shimcore.heldcall import AS_IT_CAME, Decision
from shimcore.images import transaction
from shimcore.registry.answers import Outcome
from tests.support.polling import until
from tests.unit.images.fakes import (
    CREATE,
    DIGEST,
    HUB,
    PULL,
    REMOVE,
    STATUS,
    Bench,
    FakeRuntime,
    answered,
    config_of,
    create_request,
    failed,
    image_id,
    pulled_as,
    remove_request,
    status_request,
)
from tests.unit.images.nginx import AT_HUB, AT_MIRROR, NGINX, both, for_pod

FEDORA = "registry.fedoraproject.org/fedora:40"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A node where a candidate is looked after from 0.1 s on, and has 0.6 s at most."""
    monkeypatch.setattr(transaction, "LOOK_S", 0.01)
    monkeypatch.setattr(transaction, "SHARE_S", 0.1)
    config = config_of(timeout_s=0.6)
    return Bench(config=config, registries=both(), runtime=FakeRuntime(store=False))


@pytest.fixture
def patient(bench: Bench) -> Bench:
    """The same, which has 3 s: a third of it where others are behind."""
    bench.config = config_of(timeout_s=3)
    bench.restart()
    return bench


async def pulling(bench: Bench) -> asyncio.Task[Decision]:
    """A pull that the runtime has begun."""
    pull = asyncio.create_task(bench.pull("nginx"))
    await until(lambda: bench.runtime.pulls, "the runtime is asked for no pull")
    return pull


class TestASlowPull:
    async def test_whose_registry_is_there(self, patient: Bench) -> None:
        """It is let finish, beyond its part of `timeout`: nothing is fetched twice."""
        bench = patient
        bench.runtime.pull_s = 1.5
        assert answered(await bench.pull("nginx")) == image_id(DIGEST)
        assert pulled_as(bench) == [AT_HUB]
        assert bench.registries.asked.count((HUB, AT_HUB)) > 1

    @pytest.mark.parametrize("now", [Outcome.UNREACHABLE, Outcome.ABSENT, Outcome.UNAUTHORIZED])
    async def test_whose_registry_has_gone(self, patient: Bench, now: Outcome) -> None:
        """The next one has its turn before `timeout`."""
        bench = patient
        bench.runtime.hanging.add(HUB)
        bench.registries.detail = "connection refused"
        pull = await pulling(bench)
        bench.registries.outcomes[HUB] = now
        async with asyncio.timeout(2.5):
            await pull
        assert pulled_as(bench) == [AT_HUB, AT_MIRROR]
        assert bench.runtime.cancelled == [AT_HUB]

    async def test_that_never_ends(self, bench: Bench) -> None:
        """A registry that answers and gives nothing has all of `timeout`, and not more."""
        bench.runtime.hanging.add(HUB)
        await bench.pull("nginx")
        assert pulled_as(bench) == [AT_HUB, AT_MIRROR]

    async def test_that_ends_while_its_registry_is_asked(self, patient: Bench) -> None:
        """It has ended well, whatever the registry says."""
        bench = patient
        bench.runtime.pull_s = 0.3
        pull = await pulling(bench)
        bench.registries.outcomes[HUB] = Outcome.UNREACHABLE
        bench.registries.delays_s[HUB] = 0.2
        await pull
        assert pulled_as(bench) == [AT_HUB]


async def test_namespaces_are_not_one(bench: Bench) -> None:
    """CRI-O has signature policies of namespaces; pods of one share a pull."""
    bench.runtime.pull_s = 0.05
    pods = [for_pod("a", {}), for_pod("b", {}), for_pod("a", {}, namespace="other")]
    for _ in range(2):  # the first one may find out that the runtime has no image store
        await asyncio.gather(*(bench.decide(PULL, request) for request in pods))
        assert pulled_as(bench) == [AT_HUB, AT_HUB]
        bench.runtime.pulls.clear()


class TestNoShortNames:
    """CRI-O with several registries to look in, or none: a name without one is an error."""

    async def test_kubelets_question_is_answered(self, bench: Bench) -> None:
        """By the runtime, under the image's whole name: kubelet gives up on an error."""
        bench.runtime.no_short_names = True
        for _ in range(2):
            assert await bench.status("nginx:latest") == NGINX
        await bench.pull("nginx:latest")
        assert await bench.status("nginx:latest") == AT_HUB

    async def test_an_image_of_its_own_registry(self, bench: Bench) -> None:
        """It is pulled, and found after it, by its whole name."""
        bench.runtime.no_short_names = True
        bench.registries.outcomes.clear()
        assert answered(await bench.pull("nginx")) == image_id(DIGEST)
        assert pulled_as(bench) == ["nginx", NGINX]
        for _ in range(2):
            assert await bench.status("nginx") == NGINX

    async def test_names_that_are_whole_go_on_as_they_came(self, bench: Bench) -> None:
        """Whatever was learnt of others."""
        bench.runtime.no_short_names = True
        await bench.status("nginx")
        call = bench.service.open(STATUS, status_request(NGINX), None)
        assert await call.decide() == AS_IT_CAME

    async def test_another_text_of_the_image_is_asked_about_first(self, bench: Bench) -> None:
        """It is refused as well, though the image is known to be there under its own name."""
        bench.runtime.no_short_names = True
        bench.registries.outcomes.clear()
        await bench.pull("nginx")
        assert await bench.status("nginx:latest") == NGINX

    @pytest.mark.parametrize("method", [STATUS, REMOVE, CREATE])
    @pytest.mark.parametrize("text", ["fedora:40", "99f83fb0f9b1d"])
    async def test_aliases_and_beginnings_of_ids(
        self, bench: Bench, method: str, text: str
    ) -> None:
        """They go on as they came, whatever was refused before: the runtime takes these."""
        bench.runtime.no_short_names = True
        bench.runtime.aliases[text] = FEDORA
        bench.runtime.pulled(FEDORA)
        await bench.status("nginx")
        request = {STATUS: status_request, REMOVE: remove_request, CREATE: create_request}
        assert await bench.decide(method, request[method](text)) == AS_IT_CAME

    async def test_an_id_that_was_absent_before(self, bench: Bench) -> None:
        """It was refused as a name then, and is one of an image now."""
        bench.runtime.no_short_names = True
        await bench.status("99f83fb0f9b1d")
        bench.runtime.aliases["99f83fb0f9b1d"] = FEDORA
        bench.runtime.pulled(FEDORA)
        assert await bench.status("99f83fb0f9b1d") == "99f83fb0f9b1d"

    async def test_an_alias_is_pulled_as_such(self, bench: Bench) -> None:
        """And not as an image of Docker Hub's."""
        bench.runtime.no_short_names = True
        bench.runtime.aliases["fedora:40"] = FEDORA
        bench.registries.outcomes.clear()
        await bench.pull("nginx")
        await bench.pull("fedora:40")
        assert pulled_as(bench) == ["nginx", NGINX, "fedora:40"]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (
            'short-name "nginx" did not resolve to an alias and no unqualified-search registries'
            ' are defined in "/etc/containers/registries.conf"',
            True,
        ),
        ("short name mode is enforcing, but image name nginx returns ambiguous list", True),
        ('failed to pull "docker.io/acme/short-name:v1": not found', False),
        ("docker.io/acme/short name: denied", False),
    ],
)
def test_the_words_of_a_refusal(text: str, refused: bool) -> None:
    """An image's own name is not taken for them."""
    assert failed(text).refuses_short_names is refused
