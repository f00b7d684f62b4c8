"""The running shim and the cluster's part: what it keeps of it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from shimcore.cluster import watch
from shimcore.cluster.documents import FILE_NAME, ClusterPart, Document, Kind, keep, recall
from shimcore.cluster.pace import Pace
from shimcore.cluster.starting import begin
from shimcore.config.model import KubernetesSource
from shimcore.config.watching import Watcher
from shimcore.daemon import cluster
from shimcore.daemon.shim import Shim
from tests.support.polling import until

SOURCE = KubernetesSource(enabled=True)
PART = ClusterPart(SOURCE, {Kind.CONFIG_MAP: Document("timeout: 5m", "1")})


class OneTold:
    """A follower that tells one part."""

    part = PART

    def __init__(self, _source: object, _own: object, tell: object) -> None:
        self._tell = tell

    async def run(self) -> None:
        assert callable(self._tell)
        await self._tell(self.part)
        await asyncio.Event().wait()


def _followed(tmp_path: Path) -> Shim:
    """A shim that follows a cluster."""
    path = tmp_path / "c.yaml"
    path.write_text(
        f"address: h.example\nstateDir: {tmp_path}/state\nkubernetes: {{enabled: true}}\n"
    )
    return Shim(str(path), begin(str(path)), str(tmp_path / "none.sock"))


async def test_a_disk_that_was_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part is kept when there is room again, though it does not change; the reason is said
    once."""
    monkeypatch.setattr(cluster, "KEEP_AGAIN_S", 0.02)
    monkeypatch.setattr(watch, "Follower", OneTold)
    shim = _followed(tmp_path)
    await shim.keep_good()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch.object(os, "fsync", side_effect=full):
        following = asyncio.create_task(cluster.follow(shim))
        unknown = "it will not be known after a restart"
        await until(lambda: unknown in caplog.text, f"it does not say {unknown!r}")
        await asyncio.sleep(0.2)
    kept = tmp_path / "state" / FILE_NAME
    await until(kept.exists, "it is not kept")
    following.cancel()
    found = recall(str(kept.parent), SOURCE)
    assert found is not None
    assert found.part == PART
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if unknown in line]) == 1
    await shim.generations.close(1)
    await shim.runtime.aclose()


async def test_a_part_that_there_is_no_memory_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken up as soon as there is some; nothing is to be reported."""
    monkeypatch.setattr(cluster, "KEEP_AGAIN_S", 0.02)
    monkeypatch.setattr(watch, "Follower", OneTold)
    shim = _followed(tmp_path)
    with mock.patch.object(Watcher, "put", side_effect=MemoryError):
        following = asyncio.create_task(cluster.follow(shim))
        said = "the cluster's part cannot be taken up now: no memory is left"
        await until(lambda: said in caplog.text, f"it does not say {said!r}")
    await until(lambda: shim.cluster.part == PART, "the cluster's part is not taken up")
    following.cancel()
    assert "report" not in caplog.text
    await shim.generations.close(1)
    await shim.runtime.aclose()


async def test_faults_before_it_watched_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault after it is the first one again."""
    counted: list[int] = []

    class Faulty(OneTold):
        has_watched = False

        async def run(self) -> None:
            self.has_watched = len(counted) == 2
            raise ZeroDivisionError

    def refused(_: Pace, count: int) -> float:
        counted.append(count)
        return 0.01 if len(counted) < 4 else 100.0

    monkeypatch.setattr(Pace, "refused", refused)
    monkeypatch.setattr(watch, "Follower", Faulty)
    shim = _followed(tmp_path)
    following = asyncio.create_task(cluster.follow(shim))
    await until(lambda: len(counted) >= 4, counted.copy)
    following.cancel()
    assert counted == [1, 2, 1, 2]
    await shim.generations.close(1)
    await shim.runtime.aclose()


async def test_a_part_that_a_mended_file_lets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts from then on as confirmed, and is kept for a start without the API server."""
    refused = Document("registries: [{address: 'http://h.example', auth: 'u:p'}]", "2")
    part = ClusterPart(SOURCE, {Kind.CONFIG_MAP: refused})
    monkeypatch.setattr(watch, "Follower", OneTold)
    monkeypatch.setattr(OneTold, "part", part)
    keep(f"{tmp_path}/state", PART)
    path = tmp_path / "c.yaml"
    rest = f"stateDir: {tmp_path}/state\nkubernetes: {{enabled: true}}\n"
    path.write_text(f"address: https://h.example\n{rest}")
    shim = Shim(str(path), begin(str(path)), str(tmp_path / "none.sock"))
    following = asyncio.create_task(cluster.follow(shim))
    async with asyncio.timeout(5):
        while not shim.cluster.fault:
            await asyncio.sleep(0.01)
        assert shim.cluster.part is not None
        assert (shim.cluster.part.documents, shim.cluster.kept_at > 0) == (PART.documents, True)
        path.write_text(f"address: https://other.example\n{rest}")
        assert await shim.reload(forced=False)
        assert (shim.cluster.part, shim.cluster.kept_at, shim.cluster.fault) == (part, 0.0, "")
        while (found := recall(f"{tmp_path}/state", SOURCE)) and found.part != part:
            await asyncio.sleep(0.01)
    following.cancel()
    await shim.generations.close(1)
    await shim.runtime.aclose()
