"""Containers that are made of an image while a pull of it takes the registry's name away."""

from __future__ import annotations

import asyncio

import pytest

from shimcore.heldcall import AS_IT_CAME
from shimcore.images import inuse
from tests.support.polling import until
from tests.unit.images.fakes import CREATE, DIGEST, Bench, create_request, image_id
from tests.unit.images.nginx import AT_HUB, both

NGINX = create_request(image_id(DIGEST))


class TestWhileANameGoes:
    async def test_a_container_of_the_image_waits(self) -> None:
        """The runtime would look the ID's name up that goes."""
        bench = Bench(registries=both())
        gate, delete = asyncio.Event(), bench.runtime.store.delete

        async def slow_delete(name: str) -> bool:
            await gate.wait()
            return await delete(name)

        bench.runtime.store.delete = slow_delete  # type: ignore[method-assign]
        pull = asyncio.create_task(bench.pull("nginx"))
        while not bench.names.in_use.losing([image_id(DIGEST)]):
            await asyncio.sleep(0)
        call = bench.service.open(CREATE, NGINX, None)
        assert call.decide_now() is None
        decided = asyncio.create_task(call.decide())
        await asyncio.sleep(0.02)
        assert not decided.done()
        other = bench.service.open(CREATE, create_request("sha256:" + "0" * 64), None)
        assert other.decide_now() is AS_IT_CAME
        gate.set()
        assert await decided is AS_IT_CAME
        assert AT_HUB not in bench.runtime.names()
        await pull


class TestWhileAContainerIsMade:
    async def test_the_name_stays(self) -> None:
        """Until the runtime has answered, with whatever."""
        bench = Bench(registries=both())
        call = bench.service.open(CREATE, NGINX, None)
        assert call.decide_now() is AS_IT_CAME
        pull = asyncio.create_task(bench.pull("nginx"))
        await until(lambda: AT_HUB in bench.runtime.names(), "nothing is pulled")
        await asyncio.sleep(0.05)
        assert AT_HUB in bench.runtime.names()
        call.finished(5, True, "not found")
        await pull
        assert AT_HUB not in bench.runtime.names()

    async def test_of_another_image_it_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A node that starts a hundred pods keeps no pull waiting."""
        monkeypatch.setattr(inuse, "CREATE_LIMIT_S", 60.0)
        bench = Bench(registries=both())
        bench.service.open(CREATE, create_request("sha256:" + "0" * 64), None).decide_now()
        await asyncio.wait_for(bench.pull("nginx"), 20)
        assert AT_HUB not in bench.runtime.names()

    async def test_whose_end_nobody_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It counts for a moment only: its connection may have gone."""
        monkeypatch.setattr(inuse, "CREATE_LIMIT_S", 0.05)
        bench = Bench(registries=both())
        bench.service.open(CREATE, NGINX, None).decide_now()
        await bench.pull("nginx")
        assert AT_HUB not in bench.runtime.names()
