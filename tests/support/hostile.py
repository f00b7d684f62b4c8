"""A server that answers without an end, in a process of its own: `python -m … KIND`.

It prints its port. Whatever it is asked, its answer is one of the kinds below, as fast as the
other side takes it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_ENOUGH_BYTES = 64 * 1024

# Kind → how an answer begins, what follows without an end, and seconds between two of those.
KINDS: dict[str, tuple[bytes, bytes, float]] = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0),
    "headers": (_OK, b"X-A: b\r\n", 0),
    "a header": (_OK + b"X-A: ", b"b", 0),
    "folded header": (_OK + b"X-A: b\r\n", b" c\r\n", 0),
    "chunks": (_CHUNKED, b"1\r\nx\r\n", 0),
    "error in chunks": (
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
        0,
    ),
    "chunk extensions": (_CHUNKED, b"1;" + b"e" * 30_000 + b"\r\nx\r\n", 0),
    "trailers": (_CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n", 0),
    "body": (_OK + b"\r\n", b"{\n" * 512, 0),
    "drip": (_OK + b"Content-Length: 1000000\r\n\r\n", b"x", 0.0002),
    "dripping head": (_OK, b"X", 0.0002),
    "challenges": (
        b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n"
        + (b"WWW-Authenticate: a " + b"a=b," * 4000 + b"\r\n") * 4
        + b"\r\n",
        b"",
        0,
    ),
    "errors": (
        b"HTTP/1.1 500 Oh\r\nContent-Length: 65536\r\n\r\n"
        + (b'{"errors":[' + b"[]," * 30_000)[:65_534]
        + b"]}",
        b"",
        0,
    ),
}


async def _serve(kind: str) -> None:
    start, unit, pause_s = KINDS[kind]
    piece = unit if pause_s or not unit else unit * max(1, _ENOUGH_BYTES // len(unit))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start)
            while piece:
                writer.write(piece)
                await writer.drain()
                if pause_s:
                    await asyncio.sleep(pause_s)
            await reader.read()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def hostile_registry(kind: str) -> AsyncIterator[str]:
    """Its address, while it runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.hostile", kind, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
