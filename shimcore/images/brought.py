"""Names that a pull brings to the node, for `names: original`, which takes them away again.

A name may go only if it was not there before the pull, if the image has its original name
by then, and if no other pull that is under way relies on it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakSet

from shimcore.errors import ShimError
from shimcore.images.wording import reason

if TYPE_CHECKING:
    from shimcore.images.ports import Runtime
    from shimcore.reference import Reference

logger = logging.getLogger("shimcore.images")

STORE_CALL_LIMIT_S = 10.0
"""Bound on one call to the image store; it answers in milliseconds when the node is well."""


@dataclass(slots=True)
class _Lease:
    """One candidate's names while pulls of it are under way.

    `before`: name → whether it was there, asked once. `digests`: targets that got their
    original names. `keep`: something is not known, or failed, so nothing is taken away.
    """

    users: WeakSet[object] = field(default_factory=WeakSet)
    before: dict[str, asyncio.Task[bool]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    keep: bool = False
    closing: asyncio.Task[None] | None = None


class BroughtNames:
    """Tells the names that pulls bring from those that were there before.

    `user` is any object that lives as long as its call; one that vanishes without `release`
    counts for nothing, and its names stay.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._leases: dict[str, _Lease] = {}

    async def note(self, candidate: Reference, digest: str | None, user: object) -> None:
        """Takes note, before a pull, of which of its names are there.

        `digest` is what the registry told that the tag leads to; without it the digest's name
        is not known beforehand, and stays.
        """
        lease = await self._open_lease(candidate)
        lease.users.add(user)
        names = {kept_name(candidate)}
        if digest or candidate.digest:
            names.add(f"{candidate.name}@{candidate.digest or digest}")
        for name in names - lease.before.keys():
            lease.before[name] = asyncio.ensure_future(self._is_there(name))
        await asyncio.wait([lease.before[name] for name in names])

    def named(self, candidate: Reference, digest: str) -> None:
        """The image at `digest`, pulled as the candidate, has its original name now."""
        lease = self._leases.get(str(candidate))
        if lease is not None:
            lease.digests.add(digest)

    async def release(self, candidate: Reference, user: object, *, keep: bool) -> None:
        """One pull has ended; the last one takes the brought names away.

        `keep`: the pull succeeded, but the image has no original name, so its names stay.
        """
        lease = self._leases.get(str(candidate))
        if lease is None or user not in lease.users:
            return
        lease.users.discard(user)
        lease.keep = lease.keep or keep
        if lease.users or lease.closing is not None:
            return
        lease.closing = asyncio.ensure_future(self._take_away(candidate, lease))
        await asyncio.shield(lease.closing)

    async def _open_lease(self, candidate: Reference) -> _Lease:
        key = str(candidate)
        while (lease := self._leases.get(key)) is not None:
            if lease.closing is None and lease.users:
                return lease
            if lease.closing is None:
                break
            await asyncio.wait({lease.closing})
        lease = self._leases[key] = _Lease()
        return lease

    async def _is_there(self, name: str) -> bool:
        """Whether the store has the name; True, the safe answer, when it cannot be asked."""
        try:
            return await self._runtime.store_get(name, timeout_s=STORE_CALL_LIMIT_S) is not None
        except ShimError as error:
            logger.warning("cannot tell whether %s is on the node: %s", name, reason(str(error)))
            return True

    async def _take_away(self, candidate: Reference, lease: _Lease) -> None:
        try:
            if not lease.keep and lease.digests:
                for name in self._brought(candidate, lease):
                    await self._runtime.store_delete(name, timeout_s=STORE_CALL_LIMIT_S)
        except ShimError as error:
            logger.warning("the name %s stays on the node: %s", candidate, reason(str(error)))
        finally:
            if self._leases.get(str(candidate)) is lease:
                del self._leases[str(candidate)]

    def _brought(self, candidate: Reference, lease: _Lease) -> list[str]:
        names = [f"{candidate.name}@{digest}" for digest in lease.digests]
        names.append(kept_name(candidate))
        return [
            name
            for name in dict.fromkeys(names)
            if name in lease.before and not lease.before[name].result()
        ]


def kept_name(reference: Reference) -> str:
    """The name under which a pull of `reference` is kept.

    With tag and digest both, containerd drops the tag (`ParseDockerRef`).
    """
    return str(replace(reference, tag=None) if reference.digest else reference)
