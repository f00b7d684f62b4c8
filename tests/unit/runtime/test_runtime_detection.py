"""Which socket is the runtime's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shimcore.errors import RuntimeUnavailableError
from shimcore.runtime import detection
from shimcore.runtime.detection import KNOWN_SOCKETS, detect_socket
from shimcore.runtime.errors import SeveralRuntimesError
from tests.support.scripted_runtime import ScriptedRuntime


class Sockets:
    """Unix sockets in a folder of their own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def listening(self, name: str) -> str:
        self._bound(name).listen()
        return self.path(name)

    def stale(self, name: str) -> str:
        self._bound(name).close()
        return self.path(name)

    def _bound(self, name: str) -> socket.socket:
        made = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        made.bind(self.path(name))
        return made


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of these tests listen, and say nothing."""
    monkeypatch.setattr(detection, "VERSION_TIMEOUT_S", 0.2)


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Sockets]:
    with ExitStack() as stack:
        yield Sockets(tmp_path, stack)


async def test_the_one_socket_there_is_taken(sockets: Sockets) -> None:
    """Of the known places, the one with a socket is the runtime's."""
    crio = sockets.listening("crio.sock")
    assert await detect_socket([sockets.path("containerd.sock"), crio]) == crio


async def test_no_socket_says_where_it_looked_and_what_to_do(sockets: Sockets) -> None:
    """Without any socket the error lists the places and names the key to set."""
    places = [sockets.path("a.sock"), sockets.path("b.sock")]
    with pytest.raises(RuntimeUnavailableError) as caught:
        await detect_socket(places)
    assert all(place in str(caught.value) for place in places)
    assert "`cri:`" in str(caught.value)


async def test_two_live_runtimes_are_an_error_that_lists_them(sockets: Sockets) -> None:
    """The shim does not guess between two runtimes."""
    places = [sockets.listening("containerd.sock"), sockets.listening("crio.sock")]
    with pytest.raises(SeveralRuntimesError) as caught:
        await detect_socket(places)
    assert caught.value.sockets == tuple(places)
    assert all(place in str(caught.value) for place in places)
    assert "set `cri:`" in str(caught.value)
    assert isinstance(caught.value, RuntimeUnavailableError)


async def test_a_socket_without_cri_is_no_runtime(sockets: Sockets) -> None:
    """The usual Docker node: containerd listens, too, with its CRI plugin disabled."""
    docker, containerd = sockets.path("cri-dockerd.sock"), sockets.path("containerd.sock")
    async with ScriptedRuntime(docker), ScriptedRuntime(containerd, versions=()):
        assert await detect_socket([containerd, docker]) == docker
        with pytest.raises(RuntimeUnavailableError, match="has no CRI"):
            await detect_socket([containerd])


async def test_two_that_have_cri_are_listed(sockets: Sockets) -> None:
    """And the one without is not."""
    paths = [sockets.path(f"{name}.sock") for name in ("docker", "crio", "containerd")]
    bare = ScriptedRuntime(paths[2], versions=())
    async with ScriptedRuntime(paths[0]), ScriptedRuntime(paths[1]), bare:
        with pytest.raises(SeveralRuntimesError) as caught:
            await detect_socket(paths)
    assert caught.value.sockets == tuple(paths[:2])


async def test_a_link_to_the_same_socket_is_no_second_runtime(
    sockets: Sockets, tmp_path: Path
) -> None:
    """/run and /var/run are one folder; the first spelling is kept."""
    live = sockets.listening("containerd.sock")
    (tmp_path / "run").symlink_to(tmp_path)
    assert await detect_socket([live, str(tmp_path / "run" / "containerd.sock")]) == live


async def test_a_socket_left_behind_gives_way_to_a_live_one(sockets: Sockets) -> None:
    """What a stopped runtime left behind does not stand in the way."""
    places = [sockets.stale("crio.sock"), sockets.listening("containerd.sock")]
    assert await detect_socket(places) == places[1]


async def test_a_lone_socket_that_nobody_listens_on_is_still_it(sockets: Sockets) -> None:
    """A runtime that is being restarted is waited for at its socket."""
    place = sockets.stale("containerd.sock")
    assert await detect_socket([place]) == place


async def test_two_sockets_left_behind_are_an_error(sockets: Sockets) -> None:
    """With nobody listening on either there is nothing to choose by."""
    with pytest.raises(SeveralRuntimesError):
        await detect_socket([sockets.stale("crio.sock"), sockets.stale("containerd.sock")])


async def test_a_plain_file_is_no_socket(sockets: Sockets, tmp_path: Path) -> None:
    """Only sockets count."""
    (tmp_path / "containerd.sock").write_text("")
    with pytest.raises(RuntimeUnavailableError):
        await detect_socket([sockets.path("containerd.sock")])


def test_the_known_places() -> None:
    """containerd, CRI-O, cri-dockerd, and the containerd of each distribution are looked for."""
    assert set(KNOWN_SOCKETS) == {
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/var/run/crio/crio.sock",
        "/run/cri-dockerd.sock",
        "/var/run/cri-dockerd.sock",
        "/run/k3s/containerd/containerd.sock",
        "/run/k0s/containerd.sock",
        "/var/snap/microk8s/common/run/containerd.sock",
    }


async def test_a_place_with_two_spellings_is_named_once(tmp_path: Path) -> None:
    """In what is said where nothing is there."""
    place = str(tmp_path / "runtime.sock")
    with pytest.raises(RuntimeUnavailableError) as caught:
        await detect_socket((place, place))
    assert str(caught.value).count(place) == 1
