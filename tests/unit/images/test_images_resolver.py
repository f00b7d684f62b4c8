from __future__ import annotations

import asyncio
import time
import tracemalloc
from dataclasses import replace

import pytest

from shimcore.cache import ExpiringCache
from shimcore.images import resolver as resolver_room
from shimcore.images.attempts import Attempt, Result
from shimcore.images.candidates import Candidates
from shimcore.images.resolver import BRIEF_TTL_S, Known, Resolver
from shimcore.registry.answers import Outcome
from tests.support.clock import Clock
from tests.unit.images.fakes import HUB, MIRROR, FakeRegistries, candidates, config_of

LAST = "last.local:5000"


async def best(resolver: Resolver, where: Candidates) -> int | None:
    """One question, remembered, as a pull asks it."""
    with resolver.probe(where) as probe:
        index = await probe.next_found()
        resolver.settle(where, probe, index)
        return index


async def test_slow_registry_of_lower_priority_is_not_waited_for() -> None:
    """The hub has it, so the answer comes at once, and the slow question ends."""
    registries = FakeRegistries({HUB: Outcome.FOUND}, delays_s={MIRROR: 30, LAST: 30})
    config = config_of()
    started = time.monotonic()
    assert await best(Resolver(config, registries), candidates("nginx", config)) == 0
    assert time.monotonic() - started < 5
    await asyncio.sleep(0)
    assert sorted(registries.cancelled) == [LAST, MIRROR]


async def test_registry_of_higher_priority_is_waited_for() -> None:
    """The mirror's quick answer does not beat the hub's."""
    registries = FakeRegistries({HUB: Outcome.FOUND, MIRROR: Outcome.FOUND}, delays_s={HUB: 0.05})
    config = config_of()
    assert await best(Resolver(config, registries), candidates("nginx", config)) == 0


async def test_all_are_asked_at_once() -> None:
    """Three registries that take 0.6 s each take 0.6 s together."""
    registries = FakeRegistries(delays_s={HUB: 0.6, MIRROR: 0.6, LAST: 0.6})
    config = config_of()
    started = time.monotonic()
    assert await best(Resolver(config, registries), candidates("nginx", config)) is None
    assert time.monotonic() - started < 3 * 0.6


async def test_cancelled_caller_takes_the_questions_along() -> None:
    """When nobody waits any more, nothing is asked any more."""
    registries = FakeRegistries(delays_s={HUB: 30, MIRROR: 30, LAST: 30})
    config = config_of()
    task = asyncio.create_task(best(Resolver(config, registries), candidates("nginx", config)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert len(registries.cancelled) == 3


async def test_found_lives_as_long_as_the_image_cache() -> None:
    """A certain answer is remembered for `imageCacheTTL`, and counted."""
    registries, clock, config = FakeRegistries({HUB: Outcome.FOUND}), Clock(), config_of()
    resolver, where = Resolver(config, registries, clock), candidates("nginx", config)
    assert resolver.known(where) is None
    await best(resolver, where)
    clock.now += config.cache.ttl_s - 1
    known = resolver.known(where)
    assert known is not None
    assert known.index == 0
    assert (resolver.hits, resolver.misses, len(resolver)) == (1, 1, 1)
    clock.now += 2
    assert resolver.known(where) is None
    assert len(resolver) == 0


@pytest.mark.parametrize("hub", [Outcome.UNREACHABLE, Outcome.UNAUTHORIZED])
async def test_found_below_a_registry_in_trouble_lives_briefly(hub: Outcome) -> None:
    """A better registry that comes back is asked again within seconds."""
    registries = FakeRegistries({HUB: hub, MIRROR: Outcome.FOUND})
    clock, config = Clock(), config_of()
    resolver, where = Resolver(config, registries, clock), candidates("nginx", config)
    assert await best(resolver, where) == 1
    assert resolver.known(where) is not None
    clock.now += BRIEF_TTL_S
    assert resolver.known(where) is None


async def test_absent_everywhere_lives_for_the_negative_ttl() -> None:
    """A miss is remembered for `negativeCacheTTL` only."""
    registries, clock, config = FakeRegistries(), Clock(), config_of()
    resolver, where = Resolver(config, registries, clock), candidates("nginx", config)
    assert await best(resolver, where) is None
    known = resolver.known(where)
    assert known is not None
    assert known.index is None
    assert [str(one) for one in known.others] == [f"{h}: absent" for h in (HUB, MIRROR, LAST)]
    clock.now += config.negative_cache_ttl_s
    assert resolver.known(where) is None


@pytest.mark.parametrize("trouble", [Outcome.UNREACHABLE, Outcome.UNAUTHORIZED])
@pytest.mark.parametrize("host", [HUB, MIRROR, LAST])
async def test_failure_to_ask_is_no_miss(trouble: Outcome, host: str) -> None:
    """Wherever one registry could not be asked, nothing is remembered."""
    config = config_of()
    resolver, where = Resolver(config, FakeRegistries({host: trouble})), candidates("nginx", config)
    assert await best(resolver, where) is None
    assert resolver.known(where) is None


async def test_cache_of_a_size_below_zero_is_off() -> None:
    """`imageCacheSize: -1` asks every time."""
    config = config_of()
    config = replace(config, cache=replace(config.cache, size=-1))
    resolver = Resolver(config, FakeRegistries({HUB: Outcome.FOUND}))
    await best(resolver, candidates("nginx", config))
    assert resolver.known(candidates("nginx", config)) is None


async def test_least_recently_used_leaves_first() -> None:
    """The cache holds `imageCacheSize` answers."""
    config = config_of()
    config = replace(config, cache=replace(config.cache, size=2))
    resolver = Resolver(config, FakeRegistries({HUB: Outcome.FOUND}))
    for image in ("a", "b"):
        await best(resolver, candidates(image, config))
    assert resolver.known(candidates("a", config)) is not None
    await best(resolver, candidates("c", config))
    assert resolver.known(candidates("b", config)) is None
    assert resolver.known(candidates("a", config)) is not None


async def test_a_round_from_before_a_failed_pull_is_not_remembered() -> None:
    """What it says has been shown to be wrong since."""
    registries, config = FakeRegistries({HUB: Outcome.FOUND}), config_of()
    resolver, where = Resolver(config, registries), candidates("nginx", config)
    with resolver.probe(where) as old:
        await old.next_found()
        resolver.drop(where.image)
        resolver.settle(where, old, 0)
        assert resolver.known(where) is None


@pytest.mark.parametrize("state", ["open", "half-open"])
async def test_remembered_answer_of_a_dead_registry_is_not_used(state: str) -> None:
    """What its breaker knows outweighs what the cache remembers."""
    registries, config = FakeRegistries({HUB: Outcome.FOUND}), config_of()
    resolver, where = Resolver(config, registries), candidates("nginx", config)
    await best(resolver, where)
    registries.breakers[HUB] = state
    assert resolver.known(where) is None


async def test_a_round_that_is_held_long_is_not_joined() -> None:
    """A pull on the side may take minutes; whoever comes meanwhile asks for today's answer."""
    registries, clock, config = FakeRegistries({MIRROR: Outcome.FOUND}), Clock(), config_of()
    registries.outcomes[HUB] = Outcome.UNREACHABLE
    resolver, where = Resolver(config, registries, clock), candidates("nginx", config)
    with resolver.probe(where) as held:
        resolver.settle(where, held, await held.next_found())
        registries.outcomes[HUB] = Outcome.FOUND
        clock.now += BRIEF_TTL_S
        assert resolver.known(where) is None
        assert await best(resolver, where) == 0


async def test_the_cache_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries with long reasons, and images with long names, do not fill the memory."""
    monkeypatch.setattr(resolver_room, "CACHE_LIMIT_BYTES", 4096)
    config = config_of()
    resolver = Resolver(config, FakeRegistries({LAST: Outcome.FOUND}))
    for image in "abcdef":
        await best(resolver, candidates(image * 100, config))
    assert 0 < len(resolver) < 4
    assert resolver.known(candidates("f" * 100, config)) is not None


@pytest.mark.parametrize("letter", ["d", "é", "…"])
@pytest.mark.parametrize("others", [0, 1, 10])
def test_an_answer_takes_no_more_than_it_says(letter: str, others: int) -> None:
    """Its place in the cache and its image's name counted in."""
    cache: ExpiringCache[str, Known] = ExpiringCache(1000, Clock())
    told = 0
    tracemalloc.start()
    try:
        for number in range(500):
            said = (
                Attempt(HUB, Result.ABSENT, letter * 60 + str(n), 0, n / 7) for n in range(others)
            )
            name = f"{number:0200}"
            known = Known(0, f"sha256:{number:064}", tuple(said))
            cache.put(name, known, 60.0, size := len(name) + known.size_bytes)
            told += size
        assert tracemalloc.get_traced_memory()[0] < told
    finally:
        tracemalloc.stop()
