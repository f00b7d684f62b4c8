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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from shimcore.cache import ExpiringCache
from shimcore.config import Names as Mode
from shimcore.errors import ReferenceSyntaxError, ShimError
from shimcore.images.inuse import InUse, Removals
from shimcore.images.journal import Journal, Unfinished
from shimcore.images.moment import CLOCK_SLACK_S, NEVER
from shimcore.images.namestore import (
    NamingError,
    Pulling,
    kept_name,
    label_alike,
    may_have_pulled,
    names_for,
    needed,
    nothing,
    put,
    shown,
    shows,
    until_shown,
)
from shimcore.images.wording import reason
from shimcore.reference import parse_reference
from shimcore.runtime.errors import RuntimeCallError

if TYPE_CHECKING:
    from shimcore.reference import Reference
    from shimcore.runtime.client import RuntimeClient

logger = logging.getLogger("shimcore.images")


NAMING_LIMIT_S = 30.0
"""Bound on all of one naming, the wait for another one of the same image included."""

MEND_BACKOFF_S = 30.0
"""How long an image whose naming failed is left alone by questions about it."""

LATE_S = (0.2, 2.0, 10.0)
"""After a pull that was given up: when it is looked whether its names have come all the same."""

AGAIN_S = (30.0, 60.0, 120.0, 240.0, 480.0, 960.0)
"""When it is looked again where that could not be told, or be mended: the runtime may be away."""

FAILURES_LIMIT = 4096
"""Images remembered for MEND_BACKOFF_S; beyond that some are tried again."""


class Names:
    """Gives and takes names, one image and one repository at a time; lives as long as the process.

    `tag` gives an image of `candidate`'s name the name `image` on a runtime without an image
    store (True: it could), and None where there is no way.
    """

    def __init__(
        self,
        runtime: RuntimeClient,
        journal: Journal | None = None,
        tag: Callable[[Reference, Reference], Coroutine[Any, Any, bool]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._journal = journal or Journal(None)
        self._tag = tag
        # Each is there as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pulls: set[Pulling] = set()  # those under way that may bring names
        self._asked: Counter[str] = Counter()  # names that somebody pulls as such, now
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()  # may be broken off: the journal knows
        self._looked_after: dict[tuple[str, str], Pulling] = {}  # in `_end_later`
        self._failed: ExpiringCache[str, bool] = ExpiringCache(FAILURES_LIMIT, time.monotonic)
        self._mends: set[asyncio.Task[str]] = set()
        self._unsupported_told = False
        self.in_use = InUse()
        self.removals = Removals()

    # -- pulls through a registry ------------------------------------------------------

    @asynccontextmanager
    async def pulling(self, pull: Pulling) -> AsyncIterator[None]:
        """Around a pull that may bring names; what it leaves when it is given up is seen to."""
        if pull.mode is not Mode.ORIGINAL or not await self._may_have_store():
            yield
            return
        self._pulls.add(pull)
        # The pull may go out meanwhile: it asks its registry first, which takes longer.
        self.later(lambda: self._journal.began(*pull.key, pull.started.seconds))
        try:
            yield
        except BaseException as error:
            pull.open = may_have_pulled(error)
            raise
        finally:
            self._start(lambda: _logged(lambda: self._over(pull)), late=pull.open)

    async def _may_have_store(self) -> bool:
        """Whether names can come with a pull; a store that does not answer is no registry's fault.
        Raises RuntimeUnavailableError."""
        try:
            return await self._runtime.store.supported()
        except RuntimeCallError:
            return True

    async def give(self, pull: Pulling, pulled_id: str) -> str:
        """The name under which the image is on the node now, its own if all went well.

        `pulled_id` is the image's ID where the runtime's answer to the pull told it, else "".
        A pull that succeeded stays one: raises only what pulling again does, where another pull has
        taken the image's names away before.
        """
        if pull.mode is Mode.REGISTRY:
            return str(pull.candidate)
        name: str = await asyncio.shield(self._start(lambda: self._named(pull, pulled_id)))
        pull.open = pull.unnamed = name != str(pull.image)
        return name

    def mend(self, image: Reference, candidate: Reference, mode: Mode) -> asyncio.Task[str] | None:
        """Starts naming an image found under a candidate's name only; no name there is moved.

        None when there is nothing to be done, or it failed a moment ago. The candidate's name
        stays, unless a pull of an earlier process brought it.
        """
        if mode is Mode.REGISTRY or self._failed.get(str(image)):
            return None
        return self._mend(Pulling(image, candidate, mode, started=NEVER))

    def _mend(self, pull: Pulling) -> asyncio.Task[str]:
        found = replace(pull, moves=False, again=nothing, lost=False)
        task: asyncio.Task[str] = self._start(lambda: self._named(found, ""))
        self._mends.add(task)
        task.add_done_callback(self._mends.discard)
        return task

    # -- what is under way -----------------------------------------------------------------

    @property
    def mending(self) -> bool:
        """Whether an image that is there already is being named."""
        return bool(self._mends)

    async def mended(self) -> None:
        """Returns when none of the namings is under way any more that were before a removal."""
        if self._mends:
            await asyncio.wait(self._mends)

    def under_way(self, image: Reference) -> bool:
        """Whether an image's names are being changed right now."""
        if not self._tasks:  # whoever changes names is one
            return False
        lock = self._locks.get(str(image))
        return lock is not None and lock.locked()

    async def settled(self, image: Reference) -> None:
        """Returns when no name of the image is being changed."""
        async with self._lock(str(image)):
            pass

    def _lock(self, name: str) -> asyncio.Lock:
        """The lock of an image, or of a registry's repository (a name without tag and digest)."""
        return self._locks.setdefault(name, asyncio.Lock())

    # -- pulls of a registry's name as such ----------------------------------------------

    def asked_for(self, reference: Reference) -> Callable[[bool], None]:
        """Somebody pulls this very name: it stays, whatever else pulls it. Call the result when
        that pull is over, with whether it has succeeded."""
        name, repository = kept_name(reference), reference.name
        self._asked[name] += 1

        def over(succeeded: bool) -> None:
            self._asked[name] -= 1
            if not self._asked[name]:
                del self._asked[name]
            if not succeeded:
                return
            for pull in self._seen_to:
                if pull.candidate.name == repository:
                    pull.asked.add(name)
            if spared := self._journal.spare(repository):
                self.later(lambda: self._journal.note(spared))

        return over

    @property
    def _seen_to(self) -> tuple[Pulling, ...]:
        """The pulls whose names may be there."""
        return (*self._pulls, *self._looked_after.values())

    def _asked_for(self, pull: Pulling) -> set[str]:
        """Names of the pull's repository that somebody pulls as such now, or has since it began."""
        of_it = f"{pull.candidate.name}:", f"{pull.candidate.name}@"
        return {*pull.asked, *(name for name in self._asked if name.startswith(of_it))}

    # -- the rest of a process's life ----------------------------------------------------

    async def end_left(self, left: Iterable[Unfinished], mode: Mode) -> None:
        """Ends what these pulls, whose process is gone, have left."""
        await asyncio.gather(*(self._end_left(one, mode) for one in left))

    async def _end_left(self, left: Unfinished, mode: Mode) -> None:
        try:
            image, candidate = parse_reference(left.image), parse_reference(left.candidate)
        except ReferenceSyntaxError:
            await self._journal.ended(left.image, left.candidate)
        else:
            pull = Pulling(image, candidate, mode, started=NEVER, open=True, unnamed=True)
            self._pulls.add(pull)
            await self._over(pull)

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

    def _start(
        self, work: Callable[[], Coroutine[Any, Any, Any]], *, late: bool = False
    ) -> asyncio.Task[Any]:
        task, tasks = asyncio.ensure_future(work()), self._late if late else self._tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    # -- naming ----------------------------------------------------------------------------

    async def _named(self, pull: Pulling, pulled_id: str) -> str:
        """`_name`, with every failure as a warning but that of a pull that is lost."""
        image, candidate = pull.image, pull.candidate
        try:
            async with asyncio.timeout(NAMING_LIMIT_S):
                if not await self._runtime.store.supported():
                    return str(await self._tagged(pull))
                async with self._lock(str(image)), self._lock(candidate.name):
                    await self._name(pull, pulled_id)
        except (ShimError, TimeoutError) as error:
            if pull.lost and isinstance(error, ShimError):
                raise
            self._failed.put(str(image), True, MEND_BACKOFF_S)
            why = reason(str(error) or f"not done within {NAMING_LIMIT_S:g} s")
            logger.warning("image %s keeps the name %s: %s", image, candidate, why)
            return str(candidate)
        except Exception:
            logger.exception("naming %s after %s failed", image, candidate)
            return str(candidate)
        self._failed.drop(str(image))
        return str(image)

    async def _name(self, pull: Pulling, pulled_id: str) -> None:
        """Called with both locks held."""
        image, candidate, runtime = pull.image, pull.candidate, self._runtime
        if not pull.moves and self.removals.under_way:
            raise NamingError("an image is being removed")
        record, there = await asyncio.gather(
            runtime.store.get(kept_name(candidate)), shown(runtime, image)
        )
        if record is None:
            # Another pull of the same name took it away, perhaps after it had named this image.
            if shows(there, pulled_id, [kept_name(image)], ()):
                named = await runtime.store.get(kept_name(image))
                if pull.mode is Mode.ORIGINAL and named is not None:
                    # That by digest may have come after.
                    digest = named.target.digest
                    await self._take_away(pull, digest, names_for(image, digest), pulled_id)
                return
            pull.lost = True
            await pull.again()
            pull.lost = False
            record = await runtime.store.get(kept_name(candidate))
        if record is None:
            raise NamingError(f"the image store has no {kept_name(candidate)}")
        if not pull.moves:
            named = await runtime.store.get(kept_name(image))
            if named is not None and named.target.digest != record.target.digest:
                # It leads elsewhere by now: this image's own name is that by digest.
                image = replace(image, tag=None, digest=record.target.digest)
                pull, there = replace(pull, image=image), await shown(runtime, image)
        own = names_for(image, record.target.digest)
        if not pulled_id:
            pulled = await shown(runtime, candidate)
            pulled_id = pulled.id if pulled else ""
        wanted_id = pulled_id if pull.moves else ""
        if not shows(there, wanted_id, own, ()):
            for name in own:
                await put(runtime.store, replace(record, name=name), moves=pull.moves)
            await until_shown(runtime, image, wanted_id, own, lambda: ())
            await label_alike(runtime.store, own)
        if pull.mode is Mode.ORIGINAL:
            await self._take_away(pull, record.target.digest, own, pulled_id)

    async def _take_away(
        self, pull: Pulling, digest: str, own: Sequence[str], image_id: str
    ) -> None:
        """Takes away what the pull brought of that digest under the registry's name."""
        brought = await self._brought(pull, digest)
        if brought:
            async with self.in_use.taking(image_id) as waited:
                if waited:
                    brought = await self._brought(pull, digest)
                asked = self._asked_for(pull)
                for name in brought:
                    if name not in self._asked_for(pull):
                        await self._runtime.store.delete(name)

                def gone() -> Sequence[str]:
                    """None once another pull of that repository may bring them again."""
                    others = [each for each in self._pulls if each is not pull]
                    shared = any(each.candidate.name == pull.candidate.name for each in others)
                    return () if shared or self._asked_for(pull) - asked else brought

                await until_shown(self._runtime, pull.image, "", own, gone)
        self.later(lambda: self._end(pull))  # its disk may hang, and the locks are held

    async def _brought(self, pull: Pulling, digest: str) -> list[str]:
        """The names of that digest that came with this pull and that nobody asked for, the one
        by which `_end_open` looks last. They are right until the next await."""
        get, digested = self._runtime.store.get, f"{pull.candidate.name}@{digest}"
        found = await asyncio.gather(*map(get, {kept_name(pull.candidate), digested}))
        spared: set[str] = set()
        while asked := self._asked_for(pull) - spared:
            spared |= asked
            for one in await asyncio.gather(*map(get, asked)):
                if one is not None and one.target.digest == digest:
                    spared.add(digested)  # it came with that one
        since = self._journal.since(str(pull.candidate), pull.started.seconds)
        now = time.time() + CLOCK_SLACK_S  # a later one is of before the clock was set back
        names = {
            one.name
            for one in found
            if one is not None and one.target.digest == digest and since <= one.created_at <= now
        }
        return [] if needed(pull, self._seen_to) else sorted(names - spared, reverse=True)

    # -- runtimes without an image store ---------------------------------------------------

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
        if pull.open and not await self._end_open(pull, LATE_S):
            self._start(lambda: _logged(lambda: self._end_later(pull)), late=True)
        else:
            self._pulls.discard(pull)
            await self._end(pull)

    async def _end(self, pull: Pulling) -> None:
        """Nothing is left to be done for a pull, unless the same is under way."""
        if pull.key not in {one.key for one in self._pulls}:
            await self._journal.ended(*pull.key)

    async def _end_open(self, pull: Pulling, pauses_s: Iterable[float]) -> bool:
        """Whether nothing that the pull brought is left under the registry's name, as the last
        look tells; a look that finds something sees to it."""
        ended = False
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            ended = False
            with suppress(ShimError):
                record = await self._runtime.store.get(kept_name(pull.candidate))
                since = self._journal.since(str(pull.candidate), pull.started.seconds)
                ended = record is None or record.created_at < since
                if not ended and await asyncio.shield(self._mend(pull)) == str(pull.image):
                    return True
        return ended

    async def _end_later(self, pull: Pulling) -> None:
        """Looks again at what could not be ended; the oldest pull of an image does so for all."""
        self._pulls.discard(pull)
        oldest = self._looked_after.setdefault(pull.key, pull)
        oldest.unnamed |= pull.unnamed
        if oldest is not pull:
            return
        try:
            for pause_s in AGAIN_S:
                if await self._end_open(pull, [pause_s]):
                    await self._end(pull)
                    return
        finally:
            del self._looked_after[pull.key]


async def _logged(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:
        logger.exception("work after a pull failed")
