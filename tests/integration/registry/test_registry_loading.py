"""What the first question of a process, or to a registry, has loaded before it."""

from __future__ import annotations

import _thread
import asyncio
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from shimcore.config import parse_config
from shimcore.images.candidates import candidates_of
from shimcore.images.resolver import Resolver
from shimcore.reference import parse_reference
from shimcore.registry import client as client_room
from shimcore.registry.answers import Outcome
from shimcore.registry.client import RegistryClient
from shimcore.registry.endpoint import Endpoint
from shimcore.registry.http.tls import make_context
from tests.support.registries import candidate, configured
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.tls import PrivateCA


class Loading:
    """Makes contexts, each when the test lets it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []
        self.at_once = self.most_at_once = 0

    def make_context(self, authority: bytes | None, *, insecure: bool) -> ssl.SSLContext:
        """As the client's own."""
        self.threads.append(threading.current_thread())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go_on.wait(10)
        self.at_once -= 1
        return make_context(authority, insecure=insecure)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loading]:
    """Takes as long as the test wants."""
    loading = Loading()
    monkeypatch.setattr(client_room, "make_context", loading.make_context)
    monkeypatch.setattr(client_room, "_NEXT_LOAD_S", 10.0)
    yield loading
    loading.go_on.set()


async def test_it_is_no_time_of_the_registrys(demo: ScriptedRegistry, loading: Loading) -> None:
    """On a busy node it takes longer than `probeTimeout`; the registry is well, and asked."""
    demo.add_image("library/nginx", "latest")
    config = parse_config(f"address: {demo.address}\nprobeTimeout: 1s\n", "test.yaml")
    client = RegistryClient(config.registries, probe_timeout_s=config.probe_timeout_s)
    asyncio.get_running_loop().call_later(1.5, loading.go_on.set)
    resolver = Resolver(config, client)
    with resolver.probe(candidates_of(parse_reference("nginx"), config)) as probe:
        assert await probe.next_found() == 0
        answer = probe.answer(0)
    assert answer is not None
    assert answer.elapsed_s < 1.5
    await client.aclose()


async def test_it_is_done_once_and_beside_the_event_loop(
    demo: ScriptedRegistry, client: RegistryClient, ca: PrivateCA, loading: Loading
) -> None:
    """Registries with the same settings share it; others have their turn after it."""
    demo.add_image("library/nginx", "latest")
    registries = [configured(demo.address, ca_file=file) for file in (None, ca.ca_file)]
    registries.append(configured(demo.address.replace("127.0.0.1", "localhost")))
    questions = asyncio.gather(*(client.head_manifest(one, candidate(one)) for one in registries))
    await asyncio.sleep(0.2)
    loading.go_on.set()
    assert {answer.outcome for answer in await questions} == {Outcome.FOUND}
    assert len(loading.threads) == 2
    assert threading.main_thread() not in loading.threads
    assert loading.most_at_once == 1


async def test_a_disk_that_does_not_answer(
    demo: ScriptedRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its registries are none, at once from the second question on; others are asked as ever,
    however many they are, and each has the whole time from when it begins."""
    demo.add_image("library/nginx", "latest")
    answers, made = threading.Event(), list[bytes | None]()

    def make(authority: bytes | None, *, insecure: bool) -> ssl.SSLContext:
        made.append(authority)
        assert authority is None or answers.wait(20)
        return make_context(None, insecure=insecure)

    monkeypatch.setattr(client_room, "make_context", make)
    monkeypatch.setattr(client_room, "_LOAD_S", 0.5)
    monkeypatch.setattr(client_room, "_NEXT_LOAD_S", 0.3)
    well = configured(demo.address)
    silent = [replace(well, authority=str(number).encode()) for number in range(7)]
    asked = [asyncio.create_task(client.head_manifest(one, candidate(one))) for one in silent]
    await asyncio.sleep(0)
    assert (await client.head_manifest(well, candidate(well))).outcome is Outcome.FOUND
    assert not answers.is_set()
    again = client.head_manifest(silent[0], candidate(silent[0]))
    for answer in (*await asyncio.gather(*asked), await again):
        assert answer.outcome is Outcome.UNREACHABLE
        assert answer.detail.endswith("does not answer; see the disk that it is on")
    answers.set()
    async with asyncio.timeout(20):
        for one in silent:
            while (await client.head_manifest(one, candidate(one))).outcome is not Outcome.FOUND:
                await asyncio.sleep(0.05)
    assert len(made) == 8


async def test_an_authority_is_read_with_the_configuration(
    client: RegistryClient, ca: PrivateCA, tmp_path: Path
) -> None:
    """Its file may be on a disk that does not answer by then, or be gone."""
    async with ScriptedRegistry(tls=ca.issue("127.0.0.1").context()) as demo:
        (tmp_path / "ca.pem").write_bytes(ca.ca_file.read_bytes())
        text = f"address: {demo.address}\nhub: {{caFile: ca.pem}}\n"
        hub = parse_config(text, str(tmp_path / "c.yaml")).hub
        (tmp_path / "ca.pem").unlink()
        report = await client.ping(hub)
    assert report.ok, report


async def test_a_client_that_is_closed_meanwhile(
    demo: ScriptedRegistry, client: RegistryClient, loading: Loading
) -> None:
    """It asks nothing any more."""
    ping = asyncio.create_task(client.ping(configured(demo.address)))
    await asyncio.sleep(0.05)
    await client.aclose()
    loading.go_on.set()
    assert (await ping).detail == "not asked: the registry client was closed"
    assert not demo.requests


async def test_where_no_thread_can_be_had(
    demo: ScriptedRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the next question is another."""
    demo.add_image("library/nginx", "latest")
    registry = configured(demo.address)

    refused = mock.Mock(side_effect=RuntimeError("can't start new thread"))
    with monkeypatch.context() as patched:
        patched.setattr(_thread, "start_new_thread", refused)
        answer = await client.head_manifest(registry, candidate(registry))
    assert answer.outcome is Outcome.UNREACHABLE
    assert answer.detail == "cannot be asked: can't start new thread"
    assert (await client.head_manifest(registry, candidate(registry))).outcome is Outcome.FOUND


async def test_a_question_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up soon after the probe timeout."""

    async def find(*_: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(Endpoint, "find", find)
    client, registry = RegistryClient([], probe_timeout_s=0.1), configured("http://hub:5000")
    async with asyncio.timeout(10):
        answer = await client.head_manifest(registry, candidate(registry))
    assert (answer.outcome, answer.detail) == (Outcome.UNREACHABLE, "no answer within 0.3 s")
    assert answer.elapsed_s >= 0.3
    await client.aclose()


# What a service has in memory, and then what is looked for on the event loop's own thread.
FIRST = """
import asyncio, sys, threading
import shimcore.daemon.front, shimcore.daemon.serve, shimcore.images.service
from shimcore.registry.client import RegistryClient
from tests.support.registries import candidate, configured
assert "httpx" not in sys.modules
class Finder:
    def find_spec(self, name, *_):
        if threading.current_thread() is threading.main_thread():
            print(name)
sys.meta_path.insert(0, Finder())
async def main():
    registry = configured(sys.argv[1])
    client = RegistryClient([registry], probe_timeout_s=20)
    print((await client.head_manifest(registry, candidate(registry))).outcome)
    print((await client.ping(registry)).ok)
    await client.aclose()
asyncio.run(main())
"""


async def test_no_module_is_imported_on_the_event_loop(demo: ScriptedRegistry) -> None:
    """The first question of a service imports 160 of them, in a thread."""
    demo.add_image("library/nginx", "latest")
    command = (sys.executable, "-c", FIRST, demo.address)
    root = Path(__file__).parents[3]
    run = await asyncio.to_thread(
        subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.split() == ["found", "True"], run.stderr
