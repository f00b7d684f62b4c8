"""A cache in which every entry has its own time to live, bounded in number and in bytes.

`functools.lru_cache` has neither times nor bytes, and cannot be told what an answer is worth.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ExpiringCache(Generic[K, V]):
    """At most `size` values by key, of `limit_bytes` together; size 0 keeps none.

    When it is full the expired leave first, then the least recently used. `clock` gives seconds
    that never go back.
    """

    def __init__(
        self, size: int, clock: Callable[[], float], limit_bytes: float = math.inf
    ) -> None:
        self._size = size
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[K, tuple[V, float, int]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        """How many entries are alive."""
        self._drop_expired()
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, while it lives."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, until, _ = entry
        if until <= self._clock():
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, ttl_s: float, size_bytes: int = 0) -> None:
        """Keeps the value for `ttl_s` seconds; a time of 0 or less keeps nothing."""
        self.drop(key)
        if self._size <= 0 or ttl_s <= 0:
            return
        if self._is_full(size_bytes):
            self._drop_expired()
        while self._entries and self._is_full(size_bytes):
            self.drop(next(iter(self._entries)))
        self._entries[key] = (value, self._clock() + ttl_s, size_bytes)
        self.size_bytes += size_bytes

    def drop(self, key: K) -> None:
        """Forgets one key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry[2]

    def _is_full(self, more_bytes: int) -> bool:
        return len(self._entries) >= self._size or self.size_bytes + more_bytes > self._limit_bytes

    def _drop_expired(self) -> None:
        now = self._clock()
        for key in [key for key, (_, until, _) in self._entries.items() if until <= now]:
            self.drop(key)
