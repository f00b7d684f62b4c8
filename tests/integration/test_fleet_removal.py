"""Removal from every node, as the pre-delete hook asks for it and waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from shimcore.cluster.errors import RefusedError
from shimcore.fleet import api as client
from shimcore.fleet import removal
from shimcore.fleet.values import FleetError
from tests.integration.fleet_support import AtOnce, api, fast, fleet, healthy, hook, until
from tests.support.fleetapi import NODES, FleetApi
from tests.support.fleetnode import FOLDER

__all__ = ["api", "fast"]


async def test_removal_is_paced_and_leaves_nothing(api: FleetApi, tmp_path: Path) -> None:
    """The hook returns when every node is as before: no folder, no label."""
    seen = AtOnce()
    async with fleet(tmp_path, api, ["cp", "n1", "n2"], 1) as nodes:
        for node in nodes:
            node.start()
        await until(lambda: healthy(nodes))
        for node in nodes:
            node.switch.watching = seen.of(node.name)
        async with asyncio.timeout(60), hook(api) as records:
            await removal.wait(records, await removal.ask(records), look_s=0.05)
        assert seen.most == 1
        assert seen.order[-1] == "cp"
        for node in nodes:
            assert not (node.root / "opt/image-cri-shim").exists()
            assert not (node.root / FOLDER).exists()
            assert node.labels == {}


async def test_a_removal_that_still_clears_up(api: FleetApi, tmp_path: Path) -> None:
    """A switch that was killed at its end leaves that to its timer, whose script stays."""
    async with fleet(tmp_path, api, ["n1"]) as (node,):
        node.start()
        await until(lambda: healthy([node]))
        undo = node.root / FOLDER / "undo"
        undo.touch()
        api.want("gone", mode="remove")
        await until(lambda: node.labels == {"state": "removed", "revision": "gone"})
        await until(lambda: api.holders() == {})
        assert undo.exists()
        undo.unlink()
        await until(lambda: not undo.parent.exists())


async def test_a_failed_removal_ends_the_wait(api: FleetApi, tmp_path: Path) -> None:
    """The hook fails, and the reason is its message; asked again it begins anew."""
    async with fleet(tmp_path, api, ["n1", "n2"]) as nodes:
        for node in nodes:
            node.start()
        await until(lambda: healthy(nodes))
        for node in nodes:
            node.switch.outcome = lambda request: "undone"
        async with asyncio.timeout(60), hook(api) as records:
            with pytest.raises(FleetError, match=r"halted: n.*as the test says"):
                await removal.wait(records, await removal.ask(records), look_s=0.05)
            assert sum(len(node.switch.began) for node in nodes) == 3
            for node in nodes:
                node.switch.outcome = lambda request: "removed"
            api.offset += timedelta(seconds=2)
            await removal.wait(records, await removal.ask(records), look_s=0.05)


async def test_a_removal_outlasts_faults(
    api: FleetApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts refuses, a list is too old, a node goes: all of it passes."""
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.001)
    codes = {"GET": [503] * 5 + [403, 410, 500], "PATCH": [403, 429]}
    node_of = {"labels": {"image-cri-shim.io/state": "removed", "image-cri-shim.io/revision": "x"}}

    def fault(method: str, path: str) -> int | None:
        if method == "PATCH" and path == f"{NODES}/gone":
            api.objects.pop(path)
        left = codes.get(method)
        return left.pop() if left else None

    async with hook(api) as records:
        api.fault = fault
        wanted = await removal.ask(records, look_s=0.01)
        node_of["labels"]["image-cri-shim.io/revision"] = wanted.revision
        for name in ("gone", "here"):
            api.put(f"{NODES}/{name}", {"metadata": node_of})
        codes |= {"GET": [410, 403, 503], "PATCH": [403]}
        async with asyncio.timeout(30):
            await removal.wait(records, wanted, look_s=0.01)
        assert api.labels("here") == {}


async def test_a_removal_without_the_right_to_it(
    api: FleetApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not waited for without end."""
    monkeypatch.setattr(removal, "REFUSED_S", 0.1)
    async with hook(api) as records:
        api.fault = lambda method, path: 403
        with pytest.raises(RefusedError, match="403"):
            await removal.ask(records, look_s=0.01)
