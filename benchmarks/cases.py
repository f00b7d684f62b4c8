"""What is asked, how many at a time, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.bed import DELAY_MS, DIRECT, VARIANTS, Variant


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call, of the load program's `scenario`."""

    scenario: str
    title: str
    in_flight: tuple[int, ...]
    pulls_cold: bool = False
    messages: int = 1
    """Messages of one call; what a second holds is counted in these."""

    def variants(self) -> tuple[Variant, ...]:
        """Those that mean something here: a cold pull is one that asks registries."""
        if not self.pulls_cold:
            return VARIANTS
        return tuple(one for one in VARIANTS if one is DIRECT or one.answers_pulls)


@dataclass(frozen=True, slots=True)
class Plan:
    """One whole run."""

    cases: tuple[Case, ...]
    rounds: int
    call_s: float
    warm_up_s: float
    starts: int
    long_calls: int
    short_calls: int
    connections: int
    settle_s: float
    """From the connections' end to the last look at memory."""


_PULL = f"three registries {DELAY_MS} ms away"
FULL = Plan(
    cases=(
        Case("version", "small call", (1, 16, 128)),
        Case("list-200", "list of 200 images", (1, 16, 128)),
        Case("list-5000", "list of 5,000 images", (1, 16)),
        Case("stream", "stream of 10,000 messages", (1,), messages=10_000),
        Case("status", "ImageStatus, present", (1, 16, 128)),
        Case("pull-warm", "PullImage, warm", (1, 16)),
        Case("pull-2nd", f"PullImage, cold, on the second of {_PULL}", (1,), pulls_cold=True),
        Case("pull-3rd", f"PullImage, cold, on the third of {_PULL}", (1,), pulls_cold=True),
    ),
    rounds=7,
    call_s=0.5,
    warm_up_s=0.1,
    starts=7,
    long_calls=1_000_000,
    short_calls=50_000,
    connections=1_000,
    settle_s=5,
)
QUICK = Plan(
    cases=(
        Case("version", "small call", (1, 16)),
        Case("list-200", "list of 200 images", (1, 16)),
        Case("status", "ImageStatus, present", (1, 16)),
        Case("pull-2nd", f"PullImage, cold, on the second of {_PULL}", (1,), pulls_cold=True),
    ),
    rounds=5,
    call_s=0.2,
    warm_up_s=0.05,
    starts=3,
    long_calls=20_000,
    short_calls=5_000,
    connections=200,
    settle_s=1,
)
