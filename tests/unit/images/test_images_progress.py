from __future__ import annotations

import asyncio
import gc
import json

import pytest

from shimcore.errors import RuntimeUnavailableError
from shimcore.images import moment as moment_module
from shimcore.images import progress as progress_module
from shimcore.images.progress import Ingests, Progress
from shimcore.runtime.values import Blob, Ingest
from tests.unit.images.fakes import DIGEST, FakeRuntime

INDEX = DIGEST
MANIFEST = "sha256:" + "c" * 64
CONFIG = "sha256:" + "d" * 64
LAYER = "sha256:" + "e" * 64
OTHER = "sha256:" + "f" * 64


class Time:
    """The monotonic clock, which stands until it is moved."""

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.now = 100.0
        self.wall = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def clock_gettime(self, _clock: int) -> float:
        return self.now

    def time(self) -> float:
        return self.wall + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(progress_module, "time", clock)
    monkeypatch.setattr(moment_module, "time", clock)
    return clock


def node() -> FakeRuntime:
    """A node that has the index and one manifest of an image, and fetches nothing."""
    runtime = FakeRuntime()
    runtime.listed = []
    runtime.manifests = {
        INDEX: json.dumps({"manifests": [{"digest": MANIFEST, "size": 9}]}).encode(),
        MANIFEST: json.dumps(
            {
                "config": {"digest": CONFIG, "size": 100},
                "layers": [{"digest": LAYER, "size": 900}],
            }
        ).encode(),
    }
    return runtime


def fetching(digest: str, offset: int, clock: Time, kind: str = "layer") -> Ingest:
    return Ingest(f"{kind}-{digest}", offset, 0, clock.time())


async def looked(progress: Progress, clock: Time, seconds: float) -> None:
    """A look, so many seconds later."""
    clock.now += seconds
    await progress.look()


async def test_bytes_of_the_images_own_blobs(clock: Time) -> None:
    """Through the index to its manifest; another image's blob does not count."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    runtime.listed = [fetching(LAYER, 300, clock), fetching(OTHER, 7, clock)]
    runtime.blobs = {CONFIG: Blob(100, 1.0)}
    await looked(progress, clock, 1)
    assert (progress.bytes, progress.total, progress.fetched) == (400, 1000, 300)
    assert progress.layers == (0, 1)
    runtime.listed = []
    runtime.blobs[LAYER] = Blob(900, clock.time())
    await looked(progress, clock, 1)
    assert (progress.bytes, progress.total, progress.fetched) == (1000, 1000, 900)
    assert progress.layers == (1, 1)


async def test_a_transfer_that_stands_still(clock: Time) -> None:
    """After its first bytes for `stallTimeout`; a step in between starts the time anew."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    runtime.listed = [fetching(LAYER, 300, clock)]
    await looked(progress, clock, 1)
    await looked(progress, clock, 29)
    assert not progress.stands_still(30)
    runtime.listed = [fetching(LAYER, 301, clock)]
    await looked(progress, clock, 0.9)
    await looked(progress, clock, 29.9)
    assert not progress.stands_still(30)
    await looked(progress, clock, 1)
    assert progress.stands_still(30)


async def test_a_clock_that_is_set_back(clock: Time) -> None:
    """What the runtime has touched since counts as before: the pull began earlier by that clock."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    runtime.listed = [fetching(LAYER, 300, clock)]
    await looked(progress, clock, 1)
    clock.wall -= 8 * 3600
    for offset in range(301, 330):
        runtime.listed = [fetching(LAYER, offset, clock)]
        await looked(progress, clock, 10)
        assert not progress.stands_still(30)
        assert progress.bytes == offset
    runtime.listed = []
    runtime.blobs = {CONFIG: Blob(100, clock.time()), LAYER: Blob(900, clock.time())}
    await looked(progress, clock, 1)
    assert progress.fetched == 1000


async def test_unpacking_is_no_stall(clock: Time) -> None:
    """All has come and nothing is listed any more, for however long."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    runtime.listed = [fetching(LAYER, 300, clock)]
    await looked(progress, clock, 1)
    runtime.listed = []
    runtime.blobs = {CONFIG: Blob(100, clock.time()), LAYER: Blob(900, clock.time())}
    await looked(progress, clock, 600)
    assert not progress.stands_still(30)


async def test_unpacking_of_what_another_pull_has_fetched(clock: Time) -> None:
    """All was there before, and its config is not marked yet; once it is, the registry is due."""
    runtime = node()
    runtime.blobs = {CONFIG: Blob(100, 1.0), LAYER: Blob(900, 1.0)}
    progress = Progress(Ingests(runtime.content), INDEX)
    await looked(progress, clock, 1)
    await looked(progress, clock, 600)
    assert not progress.stands_still(30)
    assert progress.idle_s >= 600
    runtime.blobs[CONFIG] = Blob(100, 1.0, unpacked=True)
    await looked(progress, clock, 1)
    assert progress.stands_still(30)


@pytest.mark.parametrize("others", [1, 3])
async def test_waiting_for_a_turn(clock: Time, others: int) -> None:
    """While as many blobs of other images come as containerd fetches at once, this one waits."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    for offset in range(1, 30):
        names = [f"sha256:{number}" for number in range(others)]
        runtime.listed = [fetching(name, offset, clock) for name in names]
        await looked(progress, clock, 10)
    assert progress.stands_still(30) is (others < 3)
    assert progress.bytes == 0
    await looked(progress, clock, 130)
    assert progress.stands_still(30)


async def test_a_tag_that_may_have_moved(clock: Time) -> None:
    """The digest that was remembered is not what comes: what does come counts."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX, certain=False)
    for offset in range(1, 30):
        runtime.listed = [fetching(OTHER, offset * 50, clock)]
        await looked(progress, clock, 10)
    assert not progress.stands_still(30)


async def test_before_the_first_byte(clock: Time) -> None:
    """A registry that pulls through is given two minutes, whether a blob is listed or not."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    await looked(progress, clock, 100)
    runtime.listed = [fetching(LAYER, 0, clock)]
    await looked(progress, clock, 1)
    await looked(progress, clock, 110)
    assert not progress.stands_still(30)
    await looked(progress, clock, 20)
    assert progress.stands_still(30)


async def test_a_leftover_is_no_stall(clock: Time) -> None:
    """An ingest that nobody has touched since the pull began."""
    runtime = node()
    runtime.listed = [fetching(LAYER, 300, clock)]
    clock.now += 5
    progress = Progress(Ingests(runtime.content), INDEX)
    await looked(progress, clock, 1)
    assert progress.bytes == 0
    await looked(progress, clock, 60)
    assert not progress.stands_still(30)


async def test_a_blob_that_another_pull_fetches_moves_with_that_one(clock: Time) -> None:
    """The list is of the whole node."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), INDEX)
    for offset in range(10):
        runtime.listed = [fetching(LAYER, offset * 50, clock)]
        await looked(progress, clock, 20)
    assert not progress.stands_still(30)


async def test_a_digest_that_is_not_known(clock: Time) -> None:
    """Whatever is fetched meanwhile counts: rather too patient than cut off."""
    runtime = node()
    progress = Progress(Ingests(runtime.content), None)
    runtime.listed = [fetching(OTHER, 5, clock)]
    await looked(progress, clock, 1)
    assert progress.bytes == 5


async def test_a_runtime_without_a_content_store(clock: Time) -> None:
    """Nothing can be seen, and nothing is known to stand still for want of it."""
    runtime = FakeRuntime()
    progress = Progress(Ingests(runtime.content), INDEX)
    await looked(progress, clock, 1)
    assert not progress.visible


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"[]",
        b'{"manifests": 7, "layers": {"digest": 1}}',
        b'{"layers": [{"digest": "x", "size": -1}, {"digest": "y", "size": "9"}, 3]}',
        b"[" * 100_000,
        json.dumps(
            {"layers": [{"digest": f"sha256:{n}", "size": 1} for n in range(5000)]}
        ).encode(),
    ],
    ids=["cut", "list", "types", "sizes", "deep", "many"],
)
async def test_a_manifest_that_a_stranger_wrote(manifest: bytes, clock: Time) -> None:
    """Is counted as far as it can be, within bounds."""
    gc.collect()  # what earlier tests left would fail to be finalized at the bottom of the stack
    runtime = node()
    runtime.manifests[INDEX] = manifest
    progress = Progress(Ingests(runtime.content), INDEX)
    await looked(progress, clock, 1)
    assert progress.total <= progress_module.BLOBS_LIMIT


async def test_a_pull_ends_while_the_runtime_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """That the runtime then fails to answer is nobody's to hear."""
    runtime = FakeRuntime()
    answers = asyncio.Event()

    async def fails() -> list[Ingest]:
        await answers.wait()
        raise RuntimeUnavailableError("gone")

    runtime.content.ingests = fails  # type: ignore[method-assign]
    progress = Progress(Ingests(runtime.content), INDEX)
    look = asyncio.create_task(progress.look())
    await asyncio.sleep(0)
    look.cancel()
    answers.set()
    await asyncio.sleep(0.01)
    del progress, look
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_many_pulls_ask_once(clock: Time) -> None:
    """One question within half a second serves them all."""
    runtime = node()
    asked = 0
    list_ingests = runtime.content.ingests

    async def counted() -> list[Ingest]:
        nonlocal asked
        asked += 1
        return await list_ingests()

    runtime.content.ingests = counted  # type: ignore[method-assign]
    shared = Ingests(runtime.content)
    for progress in [Progress(shared, INDEX) for _ in range(20)]:
        await progress.look()
    assert asked == 1
    clock.now += 1
    await shared.get()
    assert asked == 2
