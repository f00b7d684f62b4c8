"""`pull` through a real shim, from a hub with a login."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shimcore.pb import cri_pb2
from tests.integration import cli_support
from tests.integration.cli_support import AUTH, USERS, Ran, run, run_on_terminal
from tests.support.polling import until
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.serving import ServeProcess, serving
from tests.support.standin_images import PulledImage

KEYS = ["image", "pulled", "image_ref", "elapsed_ms", "error"]
IMAGES = ("alpine", "busybox", "nginx", "redis", "web")


class CountingPuller(RegistryPuller):
    """Pulls from a registry; knows how many pulls ran at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0
        self.delay_s = 0.0

    async def __call__(self, image: str, auth: cri_pb2.AuthConfig | None) -> PulledImage:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            return await super().__call__(image, auth)
        finally:
            self.running -= 1


@dataclass
class Node:
    """A shim between its parts."""

    shim: ServeProcess
    runtime: ScriptedRuntime
    puller: CountingPuller
    hub: ScriptedRegistry

    async def pull(self, *arguments: str) -> Ran:
        return await run("pull", "-f", str(self.shim.file), *arguments)

    def asked(self) -> list[str]:
        """The names that the runtime was asked to pull, ordered."""
        parsed = [
            cri_pb2.PullImageRequest.FromString(call.request)
            for call in self.runtime.called("PullImage")
        ]
        return sorted(each.image.image.partition("/")[2] for each in parsed)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A shim with a hub that has IMAGES, and wants a login."""
    puller = CountingPuller()
    async with (
        ScriptedRegistry(users=USERS, auth="basic") as hub,
        ScriptedRuntime(str(tmp_path / "runtime.sock"), puller=puller) as runtime,
    ):
        for name in IMAGES:
            hub.add_image(f"library/{name}", "latest")
        socket = tmp_path / "runtime.sock"
        async with serving(
            tmp_path, socket, address=hub.address, auth=AUTH, fallback="deny"
        ) as shim:
            yield Node(shim, runtime, puller, hub)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command waits as long as it takes until the shim remembers a pull."""
    change = "import shimcore.client.pull as pull; pull.REMEMBERED_S = 20.0; "
    command = [sys.executable, "-c", f"{change}from cli.main import run; run()"]
    monkeypatch.setattr(cli_support, "COMMAND", command)


@pytest.mark.usefixtures("patient")
async def test_images_and_lists(node: Node, tmp_path: Path) -> None:
    """Everything named is pulled from the hub, once, with a line for each."""
    path = tmp_path / "list.txt"
    path.write_text("# for the web\nredis\nnginx:latest # again\n\ndocker.io/library/web\n")
    ran = await node.pull("nginx", "--list", str(path))
    assert (ran.status, ran.err) == (0, "")
    *lines, total = ran.out.splitlines()
    hub = node.hub.host  # of pulls that end before anybody looks, too
    assert sorted(line.split(" in ")[0].split(", ")[0] for line in lines) == [
        f"pulled docker.io/library/web:latest from {hub}",
        f"pulled nginx:latest from {hub}",
        f"pulled redis:latest from {hub}",
    ]
    assert total == "3 of 3 images pulled"
    assert node.asked() == ["library/nginx:latest", "library/redis:latest", "library/web:latest"]


@pytest.mark.parametrize("jitter", ["0.2s", "200ms"])
async def test_a_wait_at_random(node: Node, jitter: str) -> None:
    """It is said, and the images are pulled after it."""
    ran = await node.pull("nginx", "--jitter", jitter)
    assert (ran.status, ran.error_lines) == (
        0,
        [f"image-cri-shim: waiting 0 s (--jitter {jitter})"],
    )
    assert node.asked() == ["library/nginx:latest"]


@pytest.mark.parametrize("jitter", ["10", "-1s", "25h", "soon"])
async def test_a_wait_that_cannot_be(node: Node, jitter: str) -> None:
    """Nothing is pulled; the option is named."""
    ran = await node.pull("nginx", "--jitter", jitter)
    assert ran.status == 2
    assert "--jitter" in ran.err
    assert node.asked() == []


async def test_pulling_again_is_well(node: Node) -> None:
    """An image that is there already is pulled, too."""
    for _ in range(2):
        ran = await node.pull("nginx")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.startswith("pulled nginx:latest ")
        assert " in " in ran.out
        assert ran.out.count("\n") == 1


async def test_a_failure_is_one_line(node: Node) -> None:
    """The others are pulled all the same; status 1."""
    ran = await node.pull("nginx", "nothing:9", "Bad", "redis")
    assert ran.status == 1
    assert ran.out.splitlines()[-1] == "2 of 4 images pulled"
    first, second = ran.error_lines
    assert first.startswith("image-cri-shim: invalid image name 'Bad'")
    assert second.startswith("image-cri-shim: nothing:9: ")


async def test_json(node: Node) -> None:
    """The keys are fixed, the order is that of the names, the invalid ones first."""
    ran = await node.pull("redis", "nothing:9", "Bad", "nginx", "-o", "json")
    assert ran.status == 1
    found = json.loads(ran.out)
    assert all(list(each) == KEYS for each in found)
    outcomes = [(each["image"], each["pulled"]) for each in found]
    assert outcomes == [
        ("Bad", False),
        ("redis:latest", True),
        ("nothing:9", False),
        ("nginx:latest", True),
    ]
    assert found[1]["image_ref"].startswith("sha256:")
    assert found[1]["error"] is None
    assert found[2]["image_ref"] is None
    assert found[2]["error"]


@pytest.mark.parametrize(("arguments", "most"), [([], 3), (["--jobs", "1"], 1), (["-j", "9"], 5)])
async def test_how_many_at_a_time(node: Node, arguments: list[str], most: int) -> None:
    """Three, or as many as --jobs says."""
    node.puller.delay_s = 0.3
    ran = await node.pull(*IMAGES, *arguments)
    assert ran.status == 0, ran.err
    assert node.puller.most == most


@pytest.mark.usefixtures("patient")
async def test_terminal(node: Node) -> None:
    """On a terminal each image has its bar, and ends as a line."""
    node.puller.delay_s = 0.5
    ran = await run_on_terminal(120, "pull", "-f", str(node.shim.file), "nginx", "nothing:9")
    assert ran.status == 1
    assert "nginx:latest ━" in ran.plain
    assert "0 of 2" in ran.plain
    assert "pulled nginx:latest from 127.0.0.1:" in ran.plain
    assert "image-cri-shim: nothing:9: " in ran.plain.replace("\n", " ")
    assert ran.plain.rstrip().endswith("1 of 2 images pulled")


async def test_not_running(tmp_path: Path) -> None:
    """No shim: one line that says where it was looked for."""
    config = tmp_path / "shim.yaml"
    config.touch(mode=0o600)
    socket = tmp_path / "shim.sock"
    config.write_text(f"address: http://127.0.0.1:9\nshim: {socket}\n")
    ran = await run("pull", "-f", str(config), "nginx", "redis")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error_lines == [
        f"image-cri-shim: the shim is not running at {socket} (there is no such socket); "
        f"see image-cri-shim status -f {config}"
    ]


async def test_killed_shim(node: Node) -> None:
    """A shim that has died: its socket is still there and refuses."""
    node.shim.kill()
    ran = await node.pull("nginx")
    assert (ran.status, ran.out) == (1, "")
    assert len(ran.error_lines) == 1
    assert f"the shim is not running at {node.shim.socket} (connection refused)" in ran.err


async def test_shim_that_dies_meanwhile(node: Node) -> None:
    """What was being pulled failed, with a line for each image."""
    node.puller.delay_s = 20
    pulling = asyncio.create_task(node.pull("nginx", "redis"))
    await until(lambda: node.puller.running >= 2, "the runtime does not pull both")
    node.shim.kill()
    ran = await pulling
    assert (ran.status, ran.out.splitlines()) == (1, ["0 of 2 images pulled"])
    assert sorted(line.partition(" went away")[0] for line in ran.error_lines) == [
        f"image-cri-shim: {image}:latest: the shim at {node.shim.socket}"
        for image in ("nginx", "redis")
    ]


async def test_runtime_that_is_gone(node: Node) -> None:
    """A shim without its runtime says so."""
    await node.runtime.stop()
    ran = await node.pull("nginx")
    assert (ran.status, ran.out) == (1, "")
    assert len(ran.error_lines) == 1
    assert f"the shim at {node.shim.socket}, or the runtime behind it, does not" in ran.err
