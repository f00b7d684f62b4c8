"""`demo` as somebody runs it who has nothing yet."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from shimcore.demo.process import DemoError
from shimcore.demo.registry import DemoRegistry
from shimcore.demo.show import show
from tests.integration.cli_support import begun, run


async def test_demo(tmp_path: Path) -> None:
    """It ends well, with the table, and leaves nothing behind."""
    folder = tmp_path / "t"
    folder.mkdir()
    ran = await run("demo", environment={"TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"})
    assert (ran.status, ran.err) == (0, "")
    header, first, second = ran.out.splitlines()[-3:]
    assert header.split() == ["ASKED", "PULLED", "AS", "REGISTRY", "TIME"]
    for line in (first, second):
        asked, pulled_as, registry, *_ = line.split()
        assert asked == "nginx:latest"
        assert pulled_as == f"{registry}/library/nginx:latest"
    assert "the hub let admin in" in ran.out
    assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_terminated(number: signal.Signals, tmp_path: Path) -> None:
    """A demo that is ended, by its terminal too, ends its shim and removes its folder."""
    folder = tmp_path / "t"
    folder.mkdir()
    async with begun(
        "demo",
        env={**os.environ, "TMPDIR": str(folder)},
        # nohup has it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readuntil(b"the real shim between them"), 60)
        for _ in range(2):
            process.send_signal(number)
            await asyncio.sleep(0.05)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (143, b"")
    assert os.listdir(folder) == []


async def test_shim_that_does_not_start() -> None:
    """A shim that ends at once: its last words are in the one line."""
    broken = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(DemoError, match=r"ended with status 1; its last words: no such thing"):
        await show(broken, {}, lambda did, saw: None)


@pytest.mark.parametrize("login", ["Basic !", "Basic a", "Basic /w==", "Basic \u00e9"])
def test_a_login_of_the_hub_that_is_none(capfd: pytest.CaptureFixture[str], login: str) -> None:
    """A stranger's is refused as any other, and no traceback is printed."""
    with DemoRegistry("u", "p") as hub:
        connection = HTTPConnection(hub.host, timeout=10)
        connection.request("GET", "/v2/", headers={"Authorization": login})
        assert connection.getresponse().status == 401
        connection.close()
    assert capfd.readouterr() == ("", "")
