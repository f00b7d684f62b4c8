from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.reference import parse_reference
from shimcore.runtime.docker import DockerEngine
from shimcore.runtime.values import RuntimeVersion

AT_HUB = parse_reference("sealos.hub:5000/library/nginx:1.27")
NGINX = parse_reference("nginx:1.27")


class Runtime:
    """A runtime that says what it is."""

    def __init__(self, name: str = "docker") -> None:
        self.name = name

    async def version(self, timeout_s: float | None) -> RuntimeVersion:
        return RuntimeVersion(self.name, "28.0", "v1")


class Engine:
    """An engine's socket: remembers request lines and answers with one status."""

    def __init__(self, path: Path, status: str = "201 Created") -> None:
        self.path = path
        self.requests: list[str] = []
        self._status = status

    async def __aenter__(self) -> Engine:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.split(b"\r\n")[0].decode())
        writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()


def engine_of(path: Path, name: str = "docker") -> DockerEngine:
    return DockerEngine(Runtime(name), str(path))  # type: ignore[arg-type]


async def test_a_tag_is_given(tmp_path: Path) -> None:
    """POST /images/NAME/tag with repository and tag; 201 is done."""
    async with Engine(tmp_path / "docker.sock") as engine:
        assert await engine_of(engine.path).tag(AT_HUB, NGINX)
    assert engine.requests == [
        "POST /images/sealos.hub%3A5000%2Flibrary%2Fnginx%3A1.27/tag"
        "?repo=docker.io%2Flibrary%2Fnginx&tag=1.27 HTTP/1.1"
    ]


@pytest.mark.parametrize("name", ["containerd", "cri-o"])
async def test_another_runtime_has_no_engine(name: str, tmp_path: Path) -> None:
    """Nobody is asked."""
    assert not await engine_of(tmp_path / "none.sock", name).tag(AT_HUB, NGINX)


async def test_a_digest_cannot_be_given(tmp_path: Path) -> None:
    """Docker takes it from where the image was pulled."""
    image = parse_reference("nginx@sha256:" + "a" * 64)
    assert not await engine_of(tmp_path / "none.sock").tag(AT_HUB, image)


async def test_an_engine_that_refuses_is_told(tmp_path: Path) -> None:
    """With its status; the image keeps the registry's name."""
    async with Engine(tmp_path / "docker.sock", "404 Not Found") as engine:
        with pytest.raises(ShimError, match="refused a tag: 404"):
            await engine_of(engine.path).tag(AT_HUB, NGINX)


async def test_an_engine_that_is_away_is_told(tmp_path: Path) -> None:
    """With its socket's path."""
    with pytest.raises(ShimError, match=r"docker\.sock does not answer"):
        await engine_of(tmp_path / "docker.sock").tag(AT_HUB, NGINX)
