"""What is kept for a while: its times to live, and its bounds."""

from __future__ import annotations

from shimcore.cache import ExpiringCache
from shimcore.registry.challenge import Challenge
from shimcore.registry.token import CACHE_LIMIT, CACHE_LIMIT_BYTES, Token, kept_bytes, token_key
from tests.support.clock import Clock

TOKENS = ExpiringCache[tuple[str, str, str], str]
CHALLENGE = Challenge("bearer", (("realm", "http://hub/token"), ("service", "hub")))


def tokens(clock: Clock | None = None) -> TOKENS:
    """A cache as a registry's login has it."""
    return ExpiringCache(CACHE_LIMIT, clock or Clock(), CACHE_LIMIT_BYTES)


def put(cache: TOKENS, challenge: Challenge, scope: str, token: Token) -> None:
    """Keeps a token as a login does."""
    key = token_key(challenge, scope)
    cache.put(key, token.value, token.ttl_s, kept_bytes(key, token))


def test_time_to_live() -> None:
    """Each entry has its own."""
    clock = Clock()
    cache: ExpiringCache[str, int] = ExpiringCache(10, clock)
    cache.put("a", 1, 5)
    cache.put("b", 2, 10)
    cache.put("never", 3, 0)
    clock.now += 5
    assert (cache.get("a"), cache.get("b"), cache.get("never")) == (None, 2, None)
    assert len(cache) == 1


def test_size_zero_keeps_nothing() -> None:
    """Off is off."""
    cache: ExpiringCache[str, int] = ExpiringCache(0, Clock())
    cache.put("a", 1, 5)
    assert cache.get("a") is None


def test_the_least_recently_used_goes_first() -> None:
    """Bounded in number."""
    cache: ExpiringCache[str, int] = ExpiringCache(2, Clock())
    cache.put("a", 1, 5)
    cache.put("b", 2, 5)
    assert cache.get("a") == 1
    cache.put("c", 3, 5)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_what_is_kept_of_tokens_is_bounded_in_bytes() -> None:
    """The oldest go first; what long realms take is counted as well."""
    cache = tokens()
    for number in range(150):
        put(cache, CHALLENGE, str(number), Token("t" * 64_000, 60.0))
        realm = Challenge("bearer", (("realm", f"http://{number}/" + "x" * 8000),))
        put(cache, realm, "scope", Token("t", 60.0))
        assert cache.size_bytes <= CACHE_LIMIT_BYTES
    assert cache.get(token_key(CHALLENGE, "149"))
    assert not cache.get(token_key(CHALLENGE, "0"))


def test_small_tokens_are_bounded_in_number() -> None:
    """A token for each repository that was asked for."""
    cache = tokens()
    for number in range(CACHE_LIMIT + 100):
        put(cache, CHALLENGE, str(number), Token("t", 60.0))
    keys = [token_key(CHALLENGE, str(number)) for number in range(CACHE_LIMIT + 100)]
    kept = sum(bool(cache.get(key)) for key in keys)
    assert CACHE_LIMIT / 2 < kept <= CACHE_LIMIT


def test_the_expired_go_first() -> None:
    """A token that is still good stays, though it is older."""
    clock = Clock()
    cache = tokens(clock)
    put(cache, CHALLENGE, "old", Token("good", 1000.0))
    for number in range(100):
        put(cache, CHALLENGE, str(number), Token("t" * 20_000, 10.0))
    clock.now += 20
    put(cache, CHALLENGE, "new", Token("t" * 64_000, 1000.0))
    assert cache.get(token_key(CHALLENGE, "old")) == "good"
    assert cache.size_bytes < 70_000


def test_dropping_and_replacing_count_back() -> None:
    """An empty cache takes nothing."""
    cache = tokens()
    for _ in range(3):
        put(cache, CHALLENGE, "scope", Token("t" * 100, 60.0))
    cache.drop(token_key(CHALLENGE, "scope"))
    cache.drop(token_key(CHALLENGE, "scope"))
    assert cache.size_bytes == 0
