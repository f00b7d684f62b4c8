"""Pulls that bring names into containerd's image store, and whether the runtime shows those.

Calls raise ShimError as the runtime's do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shimcore.errors import ShimError
from shimcore.images.moment import Moment
from shimcore.runtime.errors import StatusCode

if TYPE_CHECKING:
    from shimcore.config import Names as Mode
    from shimcore.reference import Reference
    from shimcore.runtime.client import RuntimeClient
    from shimcore.runtime.store import ImageStore
    from shimcore.runtime.values import ImageOnNode, ImageRecord

LOOK_LIMIT_S = 10.0
"""Bound on one question about a name; a runtime that is well answers in milliseconds."""

SHOWN_LIMIT_S = 5.0
"""How long a change of names may take to show in the runtime's answers."""

PAUSES_S = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Before each look whether the runtime shows a change; the last one again and again."""


class NamingError(ShimError):
    """A name that could not be given; the image stays under its registry's name."""


async def nothing() -> None:
    """What is done again where a pull cannot be."""


@dataclass(slots=True, eq=False)
class Pulling:
    """A pull of `image` as `candidate` that began at `started`.

    `mode`: which names the image is to have. `again` pulls once more: another pull of the same
    name may have taken it away. `moves`: whether a name that leads elsewhere is led to the image;
    not where it was only found. `open`: names that it brought may still be there. `asked`: names
    of that repository that somebody has pulled as such since it began. `lost`: the names were taken
    away by another pull, and it could not be pulled again. `unnamed`: the image may be on the node
    under the candidate's names alone.
    """

    image: Reference
    candidate: Reference
    mode: Mode
    again: Callable[[], Awaitable[object]] = nothing
    started: Moment = field(default_factory=Moment)
    moves: bool = True
    open: bool = False
    lost: bool = False
    unnamed: bool = False
    asked: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[str, str]:
        """The image and the candidate, as the journal has them."""
        return str(self.image), str(self.candidate)


def may_have_pulled(error: BaseException) -> bool:
    """Whether the runtime may have ended a pull well all the same, or may still do so."""
    code = getattr(error, "code", None)
    return code is None or code in {
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNAVAILABLE,
    }


def needed(pull: Pulling, pulls: Iterable[Pulling]) -> bool:
    """Whether another image has no name but those that `pull`, whose image has its own, brought:
    it is that one's to take them away, once it is named itself."""
    alike = [one for one in pulls if one.candidate == pull.candidate]
    for one in alike:
        one.unnamed &= one.image.name != pull.image.name  # that by digest is one, too
    return any(one.unnamed for one in alike)


async def shown(runtime: RuntimeClient, name: Reference) -> ImageOnNode | None:
    """What the runtime answers about a name."""
    return await runtime.image_status(str(name), timeout_s=LOOK_LIMIT_S)


async def put(store: ImageStore, record: ImageRecord, *, moves: bool) -> None:
    """Makes the name point at the record's target; a name that is there moves if it may.

    A new one has no label: those are the runtime's to give. containerd 1.x passes over a name that
    has them, so that a pause image which came with them would not be pinned.
    """
    there = await store.get(record.name)
    if there is None:
        if await store.create(replace(record, labels={})):
            return
        there = await store.get(record.name)
    if moves and there is not None and there.target.digest != record.target.digest:
        await store.update(replace(record, labels=there.labels))


async def label_alike(store: ImageStore, own: Sequence[str]) -> None:
    """The digest's name gets the labels that the runtime has given to the name people write.

    From 1.7 on, containerd marks pinned images (`io.cri-containerd.pinned`) when it learns of their
    name; its own pulls mark the digest's name, too.
    """
    *digested, written = await asyncio.gather(*map(store.get, own))
    for record in digested:
        if record is None or written is None or record.target.digest != written.target.digest:
            continue
        if not written.labels.items() <= record.labels.items():
            await store.update(replace(record, labels={**record.labels, **written.labels}))


async def until_shown(
    runtime: RuntimeClient,
    image: Reference,
    pulled_id: str,
    own: Iterable[str],
    gone: Callable[[], Iterable[str]],
) -> None:
    """Returns once the runtime shows the image with its own names and without `gone`, which is
    asked at each look.

    Raises NamingError where it does not within SHOWN_LIMIT_S.
    """
    deadline = time.monotonic() + SHOWN_LIMIT_S
    pauses = iter(PAUSES_S)
    while True:
        await asyncio.sleep(next(pauses, PAUSES_S[-1]))
        if shows(await shown(runtime, image), pulled_id, own, gone()):
            return
        if time.monotonic() > deadline:
            raise NamingError(f"the runtime does not show it within {SHOWN_LIMIT_S:g} s")


def kept_name(reference: Reference) -> str:
    """The name under which a pull of `reference` is kept.

    With tag and digest both, containerd drops the tag (`ParseDockerRef`).
    """
    return str(replace(reference, tag=None) if reference.digest else reference)


def names_for(image: Reference, digest: str) -> tuple[str, ...]:
    """The canonical names of an image whose target is `digest`, the one people write last.

    As a pull makes them: for a tag that name and the digest's beside it, for a digest only
    that. The digest's comes first, so that a shim that dies in between mends the rest.
    """
    if image.digest:
        return (kept_name(image),)
    return (f"{image.name}@{digest}", str(image))


def shows(
    shown: ImageOnNode | None, image_id: str, own: Iterable[str], gone: Iterable[str]
) -> bool:
    """Whether the runtime's answer has the names `own`, not `gone`, and the ID if one is given."""
    if shown is None or (image_id and shown.id != image_id):
        return False
    names = {*shown.repo_tags, *shown.repo_digests}
    return names.issuperset(own) and names.isdisjoint(gone)
