"""Tokens that are kept."""

from __future__ import annotations

from shimcore.registry.challenge import Challenge
from shimcore.registry.token import CACHE_LIMIT, CACHE_LIMIT_BYTES, Token, TokenCache

CHALLENGE = Challenge("bearer", (("realm", "http://hub/token"), ("service", "hub")))


def test_what_is_kept_is_bounded_in_bytes() -> None:
    """The oldest go first; what long realms take is counted as well."""
    cache = TokenCache(lambda: 0.0)
    for number in range(150):
        cache.put(CHALLENGE, str(number), Token("t" * 64_000, 60.0))
        realm = Challenge("bearer", (("realm", f"http://{number}/" + "x" * 8000),))
        cache.put(realm, "scope", Token("t", 60.0))
        assert cache.size_bytes <= CACHE_LIMIT_BYTES
    assert cache.get(CHALLENGE, "149")
    assert not cache.get(CHALLENGE, "0")


def test_small_tokens_are_bounded_in_number() -> None:
    """A token for each repository that was asked for."""
    cache = TokenCache(lambda: 0.0)
    for number in range(CACHE_LIMIT + 100):
        cache.put(CHALLENGE, str(number), Token("t", 60.0))
    kept = sum(bool(cache.get(CHALLENGE, str(number))) for number in range(CACHE_LIMIT + 100))
    assert CACHE_LIMIT / 2 < kept <= CACHE_LIMIT


def test_the_expired_go_first() -> None:
    """A token that is still good stays, though it is older."""
    now = 0.0
    cache = TokenCache(lambda: now)
    cache.put(CHALLENGE, "old", Token("good", 1000.0))
    for number in range(100):
        cache.put(CHALLENGE, str(number), Token("t" * 20_000, 10.0))
    now = 20.0
    cache.put(CHALLENGE, "new", Token("t" * 64_000, 1000.0))
    assert cache.get(CHALLENGE, "old") == "good"
    assert cache.size_bytes < 70_000


def test_dropping_and_replacing_count_back() -> None:
    """An empty cache takes nothing."""
    cache = TokenCache(lambda: 0.0)
    for _ in range(3):
        cache.put(CHALLENGE, "scope", Token("t" * 100, 60.0))
    cache.drop(CHALLENGE, "scope")
    cache.drop(CHALLENGE, "scope")
    assert cache.size_bytes == 0
