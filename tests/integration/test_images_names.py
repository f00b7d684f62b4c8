from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.images_support import Node, node

MODES = ["both", "original", "registry"]
NGINX = "docker.io/library/nginx:latest"


async def pulled(made: Node, image: str) -> None:
    """A pull that succeeds, with its names given."""
    assert (await made.pull(image)).code == 0
    await made.naming.drain()


@pytest.mark.parametrize("mode", MODES)
async def test_names_after_a_pull(tmp_path: Path, mode: str) -> None:
    """As configured; and the image is found whatever they are."""
    async with node(tmp_path, f"names: {mode}") as made:
        digest = made.hub.add_image("library/nginx", "latest")
        await pulled(made, "nginx")
        own = {NGINX, f"docker.io/library/nginx@{digest}"}
        hubs = {made.at_hub("library/nginx:latest"), made.at_hub(f"library/nginx@{digest}")}
        wanted = {"both": own | hubs, "original": own, "registry": hubs}[mode]
        assert made.names() == wanted
        assert (await made.question("nginx"))[1]
        await made.restart()
        assert (await made.question("nginx"))[1]


@pytest.mark.parametrize("mode", MODES)
async def test_runtime_without_an_image_store(tmp_path: Path, mode: str) -> None:
    """Only the registry's names, and every question still finds the image."""
    async with node(tmp_path, f"names: {mode}", image_store=False) as made:
        made.hub.add_image("library/nginx", "latest")
        await pulled(made, "nginx")
        hubs = made.at_hub("library/nginx:latest")
        assert await made.question("nginx") == (hubs, True)
        await made.restart()
        assert await made.question("nginx") == (hubs, True)
        assert await made.remove("nginx") == hubs
        assert not (await made.question("nginx"))[1]


@pytest.mark.parametrize("image_store", [True, False])
async def test_preloaded_image_with_all_registries_down(tmp_path: Path, image_store: bool) -> None:
    """`imagePullPolicy: Never` works under either name, and nobody is asked over HTTP."""
    async with node(tmp_path, image_store=image_store) as made:
        hubs = made.at_hub("library/redis:7")
        made.hub.add_image("library/redis", "7")
        made.hub.add_image("library/nginx", "latest")
        for name in (hubs, made.at_hub("library/nginx:latest")):
            request = made.pull(name)
            assert (await request).code == 0
        await made.restart()
        for registry in (made.hub, made.mirror, made.origin):
            await registry.stop()
            registry.requests.clear()
        assert (await made.question("redis:7"))[1]
        assert (await made.question("nginx"))[1]
        assert made.hub.requests == []


@pytest.mark.parametrize("mode", MODES)
async def test_removal_takes_every_name_along(tmp_path: Path, mode: str) -> None:
    """And the next question says absent."""
    async with node(tmp_path, f"names: {mode}") as made:
        made.hub.add_image("library/nginx", "latest")
        await pulled(made, "nginx")
        await made.remove("nginx")
        assert made.names() == set()
        assert await made.question("nginx") == ("nginx", False)


async def test_user_of_an_image_is_that_of_the_image(tmp_path: Path) -> None:
    """Under its own name the runtime tells the same image as under the hub's."""
    async with node(tmp_path, "names: both") as made:
        made.hub.add_image("library/nginx", "latest")
        await pulled(made, "nginx")
        own = await made.client.image_status("nginx", timeout_s=5)
        hubs = await made.client.image_status(made.at_hub("library/nginx:latest"), timeout_s=5)
        assert own == hubs
        assert own is not None


async def test_moved_tag(tmp_path: Path) -> None:
    """The original name follows the tag."""
    async with node(tmp_path, "names: original") as made:
        made.hub.add_image("library/nginx", "latest", b"old\n")
        await pulled(made, "nginx")
        digest = made.hub.add_image("library/nginx", "latest", b"new\n")
        await pulled(made, "nginx")
        assert made.runtime.table.records[NGINX].target.digest == digest
        assert not any(name.startswith(made.hub.host) for name in made.names() if "@" not in name)


async def test_failed_pull_leaves_no_name(tmp_path: Path) -> None:
    """A pull that stops half way, everywhere."""
    async with node(tmp_path, "names: original") as made:
        for registry in (made.hub, made.mirror, made.origin):
            registry.add_image("library/nginx", "latest")
            registry.faults.missing_blobs = set(registry.images.blobs)
        assert (await made.pull("nginx")).code != 0
        await made.naming.drain()
        assert made.names() == set()


@pytest.mark.parametrize("mode", ["both", "original"])
async def test_shim_killed_at_every_point_of_a_pull(tmp_path: Path, mode: str) -> None:
    """Every image that the runtime has is found under its original name by a new shim, with all
    registries down."""
    async with node(tmp_path, f"names: {mode}") as made:
        images = [f"team/app-{number}:v1" for number in range(32)]
        for image in images:
            made.hub.add_image(image.removesuffix(":v1"), "v1", image.encode())
        for calls, image in enumerate(images):
            await _pulled_until(made, image, calls // 2)
        for registry in (made.hub, made.mirror, made.origin):
            await registry.stop()
        on_node = [image for image in images if any(image in name for name in made.names())]
        assert len(on_node) > 8
        for image in on_node:
            assert (await made.question(image))[1]
            assert f"docker.io/{image}" in made.names()


async def _pulled_until(made: Node, image: str, calls: int) -> None:
    """A pull whose shim dies when the runtime has been called so many times, and a new shim."""
    mine, before = asyncio.current_task(), asyncio.all_tasks()
    made.runtime.calls.clear()
    task = asyncio.create_task(made.pull(image))
    while len(made.runtime.calls) < calls and not task.done():
        await asyncio.sleep(0)
    for each in asyncio.all_tasks() - before - {mine}:
        code = getattr(each.get_coro(), "cr_code", None)
        if each is task or (code is not None and "shimcore/images" in code.co_filename):
            each.cancel()
    await asyncio.wait({task})
    await made.restart()
