"""The names of an image after a pull through a registry: its own given, the registry's taken away.

The runtime is the only memory: once `docker.io/library/nginx:latest` stands in containerd's
image store, the image is there under it, for everyone and after any restart. Names that a
pull brought go again, unless they were there before or somebody asked for them; a name's
time of creation tells. Both are done when the runtime's own answer shows it: its CRI plugin
learns of a change from an event, a moment after the store has it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shimcore.config import Names as Mode
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.images.journal import Journal, Unfinished
from shimcore.images.locks import Locks
from shimcore.images.namestore import (
    STORE_CALL_LIMIT_S,
    NameStore,
    NamingError,
    kept_name,
    names_for,
    shows,
)
from shimcore.images.wording import reason
from shimcore.reference import parse_reference
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.images.ports import Runtime
    from shimcore.reference import Reference
    from shimcore.runtime import ImageRecord

logger = logging.getLogger("shimcore.images")


NAMING_LIMIT_S = 30.0
"""Bound on all of one naming, the wait for another one of the same image included."""

MEND_BACKOFF_S = 30.0
"""How long an image whose naming failed is left alone by questions about it."""

LATE_S = (0.2, 2.0, 10.0)
"""After a pull that was given up: when it is looked whether its names have come all the same."""

REMOVAL_LIMIT_S = 60.0
"""How long a removal counts whose end nobody tells."""

FAILURES_LIMIT = 4096
"""Images remembered for MEND_BACKOFF_S; beyond that all are tried again."""


async def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False)
class Pulling:
    """A pull of `image` as `candidate` that began at `started` (seconds since 1970).

    `digest` is what the registry told of the candidate, if it did. `open`: names that it
    brought may still be there.
    """

    image: Reference
    candidate: Reference
    digest: str | None
    started: float
    open: bool = False


class Names:
    """Gives and takes names, one image and one repository at a time; lives as long as the process.

    `tag` gives an image of `candidate`'s name the name `image` on a runtime without an image
    store (True: it could), and None where there is no way.
    """

    def __init__(
        self,
        runtime: Runtime,
        journal: Journal | None = None,
        tag: Callable[[Reference, Reference], Coroutine[Any, Any, bool]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._store = NameStore(runtime)
        self._journal = journal or Journal(None)
        self._tag = tag
        self._locks = Locks()
        self._pulls: Counter[str] = Counter()  # candidate → pulls of it under way
        self._asked: Counter[str] = Counter()  # names that somebody pulls as such, now
        self._kept: dict[str, set[str]] = {}  # repository → such names, while pulls are under way
        self._in_repository: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()  # may be broken off: the journal knows
        self._failed_at: dict[str, float] = {}
        self._mends: set[asyncio.Task[str]] = set()
        self._removals: dict[object, float] = {}  # those under way, and until when they count
        self._unsupported_told = False

    # -- pulls through a registry ------------------------------------------------------

    @asynccontextmanager
    async def pulling(
        self, image: Reference, candidate: Reference, digest: str | None, mode: Mode
    ) -> AsyncIterator[Pulling]:
        """Around a pull that may bring names; what it leaves when it is given up is seen to."""
        pull = Pulling(image, candidate, digest, time.time())
        if mode is not Mode.ORIGINAL or not await self._has_store():
            yield pull
            return
        key, repository = str(candidate), candidate.name
        self._pulls[key] += 1
        self._in_repository[repository] += 1
        self._kept.setdefault(repository, set()).update(
            name for name in self._asked if _repository_of(name) == repository
        )
        # The pull may go out meanwhile: it asks its registry first, which takes longer.
        self.later(lambda: self._journal.began(str(image), key, pull.started))
        try:
            yield pull
        except BaseException as error:
            pull.open = _may_have_pulled(error)
            raise
        finally:
            task = asyncio.ensure_future(_logged(lambda: self._over(pull)))
            tasks = self._late if pull.open else self._tasks
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def give(
        self,
        pull: Pulling,
        pulled_id: str,
        mode: Mode,
        again: Callable[[], Awaitable[object]] = _nothing,
    ) -> str:
        """The name under which the image is on the node now, its own if all went well.

        `pulled_id` is the image's ID where the runtime's answer to the pull told it, else "".
        `again` pulls once more: another pull of the same name may have taken it away. Raises
        nothing: a pull that succeeded stays one.
        """
        if mode is Mode.REGISTRY:
            return str(pull.candidate)
        name: str = await asyncio.shield(
            self._start(lambda: self._named(pull, pulled_id, mode, again=again))
        )
        pull.open = name != str(pull.image)
        return name

    def mend(self, image: Reference, candidate: Reference, mode: Mode) -> asyncio.Task[str] | None:
        """Starts naming an image found under a candidate's name only; no name there is moved.

        None when there is nothing to be done, or it failed a moment ago. The candidate's name
        stays, unless a pull of an earlier process brought it.
        """
        failed_at = self._failed_at.get(str(image))
        now = asyncio.get_running_loop().time()
        if mode is Mode.REGISTRY or (failed_at is not None and now - failed_at < MEND_BACKOFF_S):
            return None
        started = self._journal.since(str(candidate), float("inf"))
        pull = Pulling(image, candidate, None, started)
        return self._mend(pull, mode)

    def _mend(self, pull: Pulling, mode: Mode) -> asyncio.Task[str]:
        task: asyncio.Task[str] = self._start(lambda: self._named(pull, "", mode, moves=False))
        self._mends.add(task)
        task.add_done_callback(self._mends.discard)
        return task

    # -- removals --------------------------------------------------------------------------

    @property
    def mending(self) -> bool:
        """Whether an image that is there already is being named."""
        return bool(self._mends)

    def removal(self) -> Callable[[], None]:
        """Something is removed: no image is named meanwhile, which would bring it back. Call the
        result when the removal is over."""
        token = object()
        self._removals[token] = time.monotonic() + REMOVAL_LIMIT_S

        def over() -> None:
            self._removals.pop(token, None)

        return over

    async def mended(self) -> None:
        """Returns when none of the namings is under way any more that were before a removal."""
        if self._mends:
            await asyncio.wait(self._mends)

    def _removing(self) -> bool:
        now = time.monotonic()
        return any(until > now for until in self._removals.values())

    # -- what is under way -----------------------------------------------------------------

    def under_way(self, image: Reference) -> bool:
        """Whether an image's names are being changed right now."""
        return self._locks.held(f"image {image}")

    async def settled(self, image: Reference) -> None:
        """Returns when no name of the image is being changed."""
        async with self._locks.holding(f"image {image}"):
            pass

    # -- pulls of a registry's name as such ----------------------------------------------

    def asked_for(self, reference: Reference) -> Callable[[], None]:
        """Somebody pulls this very name: it stays, whatever else pulls it. Call the result when
        that pull is over."""
        name = kept_name(reference)
        self._asked[name] += 1
        if reference.name in self._kept:
            self._kept[reference.name].add(name)

        def over() -> None:
            self._asked[name] -= 1
            if not self._asked[name]:
                del self._asked[name]

        return over

    # -- the rest of a process's life ----------------------------------------------------

    async def recover(self, mode: Mode) -> None:
        """Ends what pulls of an earlier process have left."""
        self._journal.load()
        await self.end_left(self._journal.unfinished(), mode)

    async def end_left(self, left: Iterable[Unfinished], mode: Mode) -> None:
        """Ends what these pulls, whose process is gone, have left."""
        await asyncio.gather(*(self._end_left(one, mode) for one in left))

    async def _end_left(self, left: Unfinished, mode: Mode) -> None:
        try:
            image, candidate = parse_reference(left.image), parse_reference(left.candidate)
        except ReferenceSyntaxError:
            ended = True
        else:
            ended = await self._end_open(Pulling(image, candidate, None, left.at), mode)
        if ended and not self._pulls[left.candidate]:
            await self._journal.ended(left.candidate)

    def later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` in a task of this object."""
        self._start(lambda: _logged(work))

    async def drain(self) -> None:
        """Returns when no naming is under way any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Breaks off what may wait: the journal has it for the next process."""
        for task in self._late:
            task.cancel()
        if self._late:
            await asyncio.wait(self._late)

    def _start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- naming ----------------------------------------------------------------------------

    async def _named(
        self,
        pull: Pulling,
        pulled_id: str,
        mode: Mode,
        *,
        moves: bool = True,
        again: Callable[[], Awaitable[object]] = _nothing,
    ) -> str:
        """`_name`, with every failure as a warning."""
        image, candidate = pull.image, pull.candidate
        try:
            async with asyncio.timeout(NAMING_LIMIT_S):
                if not await self._has_store():
                    return str(await self._tagged(pull))
                async with self._holding(image, candidate):
                    await self._name(pull, pulled_id, mode, moves=moves, again=again)
        except (ShimError, TimeoutError) as error:
            self._remember_failure(image)
            why = reason(str(error) or f"not done within {NAMING_LIMIT_S:g} s")
            logger.warning("image %s keeps the name %s: %s", image, candidate, why)
            return str(candidate)
        except Exception:
            logger.exception("naming %s after %s failed", image, candidate)
            return str(candidate)
        self._failed_at.pop(str(image), None)
        return str(image)

    @asynccontextmanager
    async def _holding(self, image: Reference, candidate: Reference) -> AsyncIterator[None]:
        async with (
            self._locks.holding(f"image {image}"),
            self._locks.holding(f"repository {candidate.name}"),
        ):
            yield

    async def _name(
        self,
        pull: Pulling,
        pulled_id: str,
        mode: Mode,
        *,
        moves: bool,
        again: Callable[[], Awaitable[object]],
    ) -> None:
        """Called with both locks held."""
        image, candidate = pull.image, pull.candidate
        if not moves and self._removing():
            raise NamingError("an image is being removed")
        record, digested, shown = await asyncio.gather(
            self._store.get(kept_name(candidate)),
            self._store.get(f"{candidate.name}@{pull.digest}" if pull.digest else ""),
            self._store.shown(str(image)),
        )
        if record is None:
            # Another pull of the same name took it away, perhaps after it had named this image.
            if shows(shown, pulled_id, [kept_name(image)], ()):
                return
            await again()
            record = await self._store.get(kept_name(candidate))
        if record is None:
            raise NamingError(f"the image store has no {kept_name(candidate)}")
        target = record.target.digest
        own = names_for(image, target)
        if not pulled_id:
            pulled = await self._store.shown(str(candidate))
            pulled_id = pulled.id if pulled else ""
        if not shows(shown, pulled_id if moves else "", own, ()):
            for name in own:
                await self._store.put(replace(record, name=name), moves=moves)
            await self._store.until_shown(image, pulled_id if moves else "", own, ())
            await self._store.label_alike(own)
        if mode is not Mode.ORIGINAL:
            return
        if digested is None or digested.target.digest != target:
            digested = await self._store.get(f"{candidate.name}@{target}")
        brought = await self._brought(pull, [record, digested])
        if brought:
            await asyncio.gather(*map(self._store.delete, brought))
            await self._store.until_shown(image, "", own, brought)
        if not self._pulls[str(candidate)]:
            await self._journal.ended(str(candidate))

    async def _brought(self, pull: Pulling, records: Iterable[ImageRecord | None]) -> list[str]:
        """The names that came with this pull and that nobody asked for."""
        candidate = pull.candidate
        since = self._journal.since(str(candidate), pull.started)
        names = {
            record.name
            for record in records
            if record is not None and record.created_at >= since and record.name not in self._asked
        }
        kept = self._kept.get(candidate.name, set())
        for name in kept:
            names.discard(name)
            asked = await self._store.get(name)
            if asked is not None:  # its digest's name came with it
                names.discard(f"{candidate.name}@{asked.target.digest}")
        return sorted(names)

    # -- runtimes without an image store ---------------------------------------------------

    async def _has_store(self) -> bool:
        return await self._runtime.store_supported(timeout_s=STORE_CALL_LIMIT_S)

    async def _tagged(self, pull: Pulling) -> Reference:
        """The image's own name where the runtime's engine could give it, else the candidate's."""
        if self._tag is not None and await self._tag(pull.candidate, pull.image):
            return pull.image
        if not self._unsupported_told:
            self._unsupported_told = True
            logger.warning(
                "the runtime has no way to name an image: images keep the names of the registries"
                " they came from, as with `names: registry`"
            )
        return pull.candidate

    # -- the end of a pull -------------------------------------------------------------------

    async def _over(self, pull: Pulling) -> None:
        """A pull is over. What was given up may have brought names, or may still do so."""
        key, repository = str(pull.candidate), pull.candidate.name
        ended = not pull.open or await self._end_open(pull, Mode.ORIGINAL)
        self._pulls[key] -= 1
        if self._pulls[key] <= 0:
            del self._pulls[key]
            if ended:
                await self._journal.ended(key)
        self._in_repository[repository] -= 1
        if self._in_repository[repository] <= 0:
            del self._in_repository[repository]
            self._kept.pop(repository, None)

    async def _end_open(self, pull: Pulling, mode: Mode) -> bool:
        """Whether nothing that the pull brought is left under the registry's name."""
        for pause_s in LATE_S:
            await asyncio.sleep(pause_s)
            try:
                record = await self._store.get(kept_name(pull.candidate))
                since = self._journal.since(str(pull.candidate), pull.started)
                if record is None or record.created_at < since:
                    continue
            except ShimError:
                return False
            return await asyncio.shield(self._mend(pull, mode)) == str(pull.image)
        return True

    def _remember_failure(self, image: Reference) -> None:
        if len(self._failed_at) >= FAILURES_LIMIT:
            self._failed_at.clear()
        self._failed_at[str(image)] = asyncio.get_running_loop().time()


def _repository_of(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def _may_have_pulled(error: BaseException) -> bool:
    """Whether the runtime may have ended a pull well all the same, or may still do so."""
    code = getattr(error, "code", None)
    return code is None or code in {
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNAVAILABLE,
    }


async def _logged(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:
        logger.exception("work after a pull failed")
