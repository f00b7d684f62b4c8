"""An LRU cache in which every entry has its own time to live."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class ExpiringCache(Generic[V]):
    """At most `size` values by key, the least recently used leaving first; size 0 keeps none.

    `clock` gives seconds that never go back.
    """

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[str, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many entries are alive."""
        now = self._clock()
        for key in [key for key, (_, until) in self._entries.items() if until <= now]:
            del self._entries[key]
        return len(self._entries)

    def get(self, key: str) -> V | None:
        """The value, while it lives."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, until = entry
        if until <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: str, value: V, ttl_s: float) -> None:
        """Keeps the value for `ttl_s` seconds; a time of 0 or less keeps nothing."""
        self._entries.pop(key, None)
        if self._size <= 0 or ttl_s <= 0:
            return
        self._entries[key] = (value, self._clock() + ttl_s)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forgets one key."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forgets all."""
        self._entries.clear()
