"""What all connections have together of something scarce, and what each has for itself."""

from __future__ import annotations


class Budget:
    """Of `limit`, taken in common by what is over each connection's own `share`.

    So a connection within its share never waits for the others, and all that there can be
    of it is `limit` and a share for each connection.
    """

    __slots__ = ("limit", "pooled", "share", "used")

    def __init__(self, limit: int, share: int = 0) -> None:
        self.limit = limit
        self.share = share
        self.used = 0  # by all connections
        self.pooled = 0  # of that, what is over their shares


class Account:
    """What one connection has of a budget."""

    __slots__ = ("_budget", "used")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.used = 0

    @property
    def over(self) -> bool:
        """Whether this connection has more than its share, and all together too much."""
        budget = self._budget
        return self.used > budget.share and budget.pooled > budget.limit

    def change(self, difference: int) -> None:
        """Take so much more, or give it back."""
        budget = self._budget
        before, share = self.used, budget.share
        self.used = now = before + difference
        budget.used += difference
        if before > share or now > share:
            budget.pooled += max(now - share, 0) - max(before - share, 0)

    def take(self, size: int) -> bool:
        """Take so much if there is so much."""
        self.change(size)
        if self.over:
            self.change(-size)
            return False
        return True
