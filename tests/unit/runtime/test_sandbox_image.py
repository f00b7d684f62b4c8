from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from unittest import mock

import pytest

from shimcore.runtime import sandbox_image
from shimcore.runtime.sandbox_image import configured_sandbox_image, sandbox_image_in

V2 = (
    'version = 3\n[plugins."io.containerd.cri.v1.images".pinned_images]\nsandbox = "r/pause:3.10"\n'
)
V1 = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "r/pause:3.6"\n'
CRIO = '[crio]\nroot = "/r"\n[crio.image]\npause_image = "r/pause:3.5"\n'


@pytest.mark.parametrize(
    ("text", "image"),
    [
        (CRIO, "r/pause:3.5"),
        (V2, "r/pause:3.10"),
        (V1, "r/pause:3.6"),
        ("", ""),
        ("x = [", ""),
        ("plugins = 3", ""),
    ],
)
def test_both_versions_of_the_configuration(text: str, image: str) -> None:
    """And what is none."""
    assert sandbox_image_in(text) == image


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def usual(monkeypatch: pytest.MonkeyPatch, command: str, file: Path) -> None:
    """The usual places, where the process behind the socket cannot be seen."""
    monkeypatch.setattr(sandbox_image, "PROGRAM", command)
    monkeypatch.setattr(sandbox_image, "CONFIG_FILE", str(file))


async def test_the_dump_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file that containerd has."""
    file = tmp_path / "config.toml"
    (tmp_path / "dumped").write_text(V2)
    script = f'[ "$*" = "--config {file} config dump" ] && cat {tmp_path}/dumped'
    usual(monkeypatch, program(tmp_path / "containerd", script), file)
    assert await configured_sandbox_image("/nowhere/containerd.sock", 5) == "r/pause:3.10"


@pytest.mark.parametrize("script", ["exit 1", "sleep 60", "yes"], ids=["fails", "hangs", "floods"])
async def test_the_file_is_read_where_the_dump_gives_nothing(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the command does; it is ended."""
    file = tmp_path / "config.toml"
    file.write_text(V1)
    usual(monkeypatch, program(tmp_path / "containerd", script), file)
    assert await configured_sandbox_image("/nowhere/containerd.sock", 0.5) == "r/pause:3.6"


@pytest.mark.parametrize(
    ("answer", "image"),
    [
        (f"HTTP/1.1 200 OK\r\nContent-Length: {len(CRIO)}\r\n\r\n{CRIO}", "r/pause:3.5"),
        (f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(CRIO)}\r\n\r\n{CRIO}", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1100000\r\n\r\n" + CRIO + "#" * 1_100_000, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + CRIO, ""),
        ("no HTTP at all\r\n\r\n", ""),
    ],
    ids=["told", "not told", "floods", "hangs", "speaks something else"],
)
async def test_crio_is_asked(answer: str, image: str, tmp_path: Path) -> None:
    """Over the socket that CRI goes over."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer.encode())
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    socket = tmp_path / "crio.sock"
    async with await asyncio.start_unix_server(serve, str(socket)):
        with mock.patch.object(sandbox_image, "peer_of", return_value=None):
            assert await configured_sandbox_image(str(socket), 0.5) == image
    assert asked[0].startswith(b"GET /config HTTP/1.1\r\n")


async def test_another_runtime_is_not_taken_for_containerd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is of another name, or its process is."""
    file = tmp_path / "config.toml"
    file.write_text(V1)
    usual(monkeypatch, program(tmp_path / "containerd", "exit 1"), file)
    assert await configured_sandbox_image("/run/crio/crio.sock", 1) == ""
    server = await asyncio.start_unix_server(lambda *_: None, str(tmp_path / "containerd.sock"))
    async with server:  # this very process, which is a Python
        assert await configured_sandbox_image(str(tmp_path / "containerd.sock"), 1) == ""


async def test_the_process_behind_the_socket_says_where_its_file_is(tmp_path: Path) -> None:
    """By its command line."""
    file = tmp_path / "own.toml"
    file.write_text(V2)
    socket = tmp_path / "c.sock"
    command = program(tmp_path / "containerd", "exit 1")
    serve = tmp_path / "serve.py"
    serve.write_text(
        "import socket as s, sys\n"
        "u = s.socket(s.AF_UNIX); u.bind(sys.argv[1]); u.listen()\n"
        "print(flush=True); input()\n"
    )
    process = await asyncio.create_subprocess_exec(
        command, str(serve), str(socket), f"--config={file}",
        executable=sys.executable, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            await process.stdout.readline()
        assert await configured_sandbox_image(str(socket), 5) == "r/pause:3.10"
    finally:
        process.kill()
        await process.wait()
