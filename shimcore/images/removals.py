"""RemoveImage calls that are under way."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 60.0
"""How long a removal counts whose end nobody tells."""


class Removals:
    """No image is named while one is under way, which would bring it back.

    `count`: how many have begun and ended; what was known of images before is uncertain then.
    """

    def __init__(self) -> None:
        self._until: dict[object, float] = {}
        self.count = 0

    def begin(self) -> Callable[[], None]:
        """Something is removed. Call the result when that is over."""
        token = object()
        self._until[token] = time.monotonic() + LIMIT_S
        self.count += 1

        def over() -> None:
            self._until.pop(token, None)
            self.count += 1

        return over

    @property
    def under_way(self) -> bool:
        """Whether something is being removed."""
        now = time.monotonic()
        return any(until > now for until in self._until.values())
