"""Which registry has an image: all asked at once, the best by priority, remembered for a while."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from shimcore.cache import ExpiringCache
from shimcore.images.attempts import Attempt, not_found
from shimcore.registry.answers import ManifestAnswer, Outcome
from shimcore.registry.health import State

if TYPE_CHECKING:
    from shimcore.config import Config
    from shimcore.images.candidates import Candidate, Candidates
    from shimcore.reference import Reference
    from shimcore.registry.client import RegistryClient

logger = logging.getLogger("shimcore.images")

BRIEF_TTL_S = 2.0
"""How long an answer lives in which a better registry could not be asked: one that comes
back is used again within seconds."""

CACHE_LIMIT_BYTES = 8 << 20
"""Of all remembered answers together: ten thousand of usual ones."""

_KNOWN_BYTES, _OTHER_BYTES = 768, 160
"""What an answer takes beside its texts, as measured (CPython 3.11, 64 bits)."""


@dataclass(frozen=True, slots=True)
class Known:
    """A remembered answer: the best candidate (its place in the order, the digest that its
    registry told), or that every registry said absent (`index` None); what the others said."""

    index: int | None
    digest: str | None
    others: tuple[Attempt, ...]

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, its image's name aside."""
        texts = sum(sys.getsizeof(other.detail) for other in self.others)
        return _KNOWN_BYTES + _OTHER_BYTES * len(self.others) + texts


class Probe:
    """One round of asking every candidate's registry; the client asks the same once at a time.

    `drops`: how many answers had been dropped when it began.
    """

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        registries: RegistryClient,
        drops: int,
    ) -> None:
        self.drops = drops
        self._candidates = candidates
        self._registries = registries
        self._answers: list[ManifestAnswer | None] = [None] * len(candidates)
        self._tasks = [asyncio.ensure_future(self._ask(index)) for index in range(len(candidates))]

    def __enter__(self) -> Self:
        """The round itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """What is still unanswered is asked no further."""
        for task in self._tasks:
            task.cancel()

    def answer(self, index: int) -> ManifestAnswer | None:
        """One registry's answer; None while there is none."""
        return self._answers[index]

    async def next_found(self, tried: Collection[int] = ()) -> int | None:
        """The best candidate outside `tried` that is there, as soon as it is certain.

        Registries of lower priority are not waited for; those of higher priority are, each
        at most `probeTimeout`.
        """
        for index, task in enumerate(self._tasks):
            if index in tried:
                continue
            await asyncio.wait({task})
            answer = self._answers[index]
            if answer is not None and answer.outcome is Outcome.FOUND:
                return index
        return None

    def found_beside(self, tried: Collection[int]) -> bool:
        """Whether a candidate outside `tried` is known to be there."""
        rest = [answer for index, answer in enumerate(self._answers) if index not in tried]
        return any(answer is not None and answer.outcome is Outcome.FOUND for answer in rest)

    def others(self) -> tuple[Attempt, ...]:
        """What the registries said that have not found it, as far as they have answered."""
        return tuple(
            not_found(candidate, answer)
            for candidate, answer in zip(self._candidates, self._answers, strict=True)
            if answer is not None and answer.outcome is not Outcome.FOUND
        )

    async def _ask(self, index: int) -> None:
        candidate = self._candidates[index]
        started = time.monotonic()
        try:
            answer = await self._registries.head_manifest(candidate.registry, candidate.reference)
        except Exception:
            logger.exception("the question to %s failed", candidate.registry.host)
            elapsed_s = time.monotonic() - started
            answer = ManifestAnswer(Outcome.UNREACHABLE, None, "internal error", elapsed_s)
        self._answers[index] = answer


class Resolver:
    """What registries answered about images, remembered; one config's.

    `clock` gives seconds for the times to live. `hits` and `misses` count questions.
    """

    def __init__(
        self,
        config: Config,
        registries: RegistryClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._registries = registries
        self._cache: ExpiringCache[str, Known] = ExpiringCache(
            config.cache.size, clock, CACHE_LIMIT_BYTES
        )
        self._drops = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._cache)

    def known(self, candidates: Candidates) -> Known | None:
        """The remembered answer; none is given for a registry whose breaker is not closed."""
        known = self._cache.get(str(candidates.image))
        if known is not None and known.index is not None:
            host = candidates.ranked[known.index].registry.host
            if self._registries.states().get(host, State.CLOSED) != State.CLOSED:
                known = None
        if known is None:
            self.misses += 1
        else:
            self.hits += 1
        return known

    def probe(self, candidates: Candidates) -> Probe:
        """A round of questions about an image, for a `with`."""
        return Probe(candidates.ranked, self._registries, self._drops)

    def settle(self, candidates: Candidates, probe: Probe, index: int | None) -> None:
        """Remembers a round's result, for as long as it may be relied on.

        Found: `imageCacheTTL`, or briefly if a better registry could not be asked. Absent
        everywhere: `negativeCacheTTL`. Anything else is no answer, and is not remembered; nor is
        one of a round that began before an answer was dropped.
        """
        if probe.drops != self._drops:
            return
        end = len(candidates.ranked) if index is None else index
        answers = [probe.answer(at) for at in range(end)]
        certain = all(answer and answer.outcome is Outcome.ABSENT for answer in answers)
        if index is None:
            ttl_s = self._config.negative_cache_ttl_s if certain else 0.0
            digest = None
        else:
            ttl_s = self._config.cache.ttl_s
            if not certain:
                ttl_s = min(ttl_s, BRIEF_TTL_S)
            found = probe.answer(index)
            digest = found.digest if found else None
        name, known = str(candidates.image), Known(index, digest, probe.others())
        self._cache.put(name, known, ttl_s, len(name) + known.size_bytes)

    def drop(self, image: Reference) -> None:
        """Forgets an answer that a pull has shown to be wrong; the next question asks anew."""
        self._drops += 1
        self._cache.drop(str(image))
