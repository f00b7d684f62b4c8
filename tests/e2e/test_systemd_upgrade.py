"""An upgrade without a gap under a real systemd: who is main, who is left alone, what is said."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.cri_client import CallError, CriClient, channel
from tests.e2e.support.process import wait_for
from tests.e2e.support.systemd_tree import COMMAND, Machine, node

pytestmark = pytest.mark.e2e

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
CONFIG = "/etc/image-cri-shim.yaml"
SHIM = "/run/image-cri-shim.sock"
PULL_S = 40
HUB = "address: http://sealos.hub:5000\nauth: admin:pass:word\nreloadInterval: 1h\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted Debian with the service installed and started."""
    if missing := systemd_tree.missing():
        refuse("needs " + ", ".join(missing))
    with node() as booted:
        booted.add(CONFIG, HUB, 0o600)
        booted.run("image-cri-shim", "install-service", "--now", check=True)
        yield booted


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The same, one process that serves, images of earlier tests gone."""
    machine.place("/run/node/slow").unlink(missing_ok=True)
    machine.place("/run/node/pulling").unlink(missing_ok=True)
    machine.systemctl("start", SERVICE)
    wait_for("an answer", lambda: _answers(machine), 20)
    wait_for("one process alone", lambda: len(_processes(machine)) == 1, 30)
    return machine


def _answers(machine: Machine) -> bool:
    with CriClient(machine.place(SHIM), timeout_s=5) as client:
        try:
            client.version()
        except CallError:
            return False
    return True


def _main_pid(machine: Machine) -> int:
    return int(machine.shows(SERVICE, "MainPID"))


def _processes(machine: Machine) -> list[int]:
    """The processes in the service's cgroup."""
    group = machine.shows(SERVICE, "ControlGroup")
    found = machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout
    return [int(pid) for pid in found.split()]


def _status(machine: Machine) -> str:
    return machine.run("image-cri-shim", "status").stdout


def _hand_over(machine: Machine, *options: str) -> str:
    done = machine.run("image-cri-shim", "hand-over", *options)
    assert done.returncode == 0, done.stderr + machine.journal()
    return done.stdout


class Load:
    """Status calls on one connection, and on a connection of its own each, until it is ended."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self.outcomes: list[str] = []
        self.slowest_s = 0.0

    def one_connection(self) -> None:
        with CriClient(self._machine.place(SHIM), timeout_s=20) as client:
            while not self._stop.is_set():
                self._count(client)

    def one_each(self) -> None:
        while not self._stop.is_set():
            with CriClient(self._machine.place(SHIM), timeout_s=20) as client:
                self._count(client)

    def _count(self, client: CriClient) -> None:
        started = time.monotonic()
        try:
            client.version()
            self.outcomes.append("OK")
        except CallError as error:
            self.outcomes.append(str(error))
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def end(self) -> None:
        self._stop.set()


@contextlib.contextmanager
def _load(machine: Machine) -> Iterator[Load]:
    load = Load(machine)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        pool.submit(load.one_connection)
        pool.submit(load.one_each)
        try:
            yield load
        finally:
            load.end()
    print(f"{len(load.outcomes)} calls, slowest {load.slowest_s:.2f} s")


@contextlib.contextmanager
def _pulling(machine: Machine, image: str) -> Iterator[concurrent.futures.Future[str]]:
    """A pull of PULL_S seconds that the runtime has begun."""
    machine.place("/run/node/slow").write_text(str(PULL_S))
    with (
        CriClient(machine.place(SHIM), timeout_s=90) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        pull = pool.submit(client.pull, image)
        wait_for("the pull", machine.place("/run/node/pulling").exists, 30)
        yield pull


@contextlib.contextmanager
def _stream(machine: Machine) -> Iterator[Any]:
    """A stream that has carried a message, ended by the client at the end."""
    ended = threading.Event()
    with channel(machine.place(SHIM)) as connection:
        chat: Any = connection.stream_stream("/x.Unknown/Chat")
        call = chat(_until(ended))
        assert next(call) == b"open"
        try:
            yield call
        finally:
            ended.set()
        assert list(call) == []


def test_nothing_fails_and_nobody_else_is_restarted(service: Machine) -> None:
    """Under calls, a pull and an open stream: none fails, the socket and the runtime are the same
    ones, systemd watches the new process, the old one ends with its last call."""
    old, runtime = _main_pid(service), service.shows("containerd.service", "MainPID")
    inode = service.place(SHIM).stat().st_ino
    restarts = service.shows(SERVICE, "NRestarts")
    with _load(service) as load:
        with _stream(service), _pulling(service, "nginx:latest") as pull:
            said = _hand_over(service)
            new = _main_pid(service)
            assert str(new) in said
            assert new != old
            assert not pull.done()
            wait_for("its line", lambda: f"{old} (version" in _status(service), 10)
            assert pull.result(90).startswith("sha256:")
            assert old in _processes(service)
        wait_for("the end of the old process", lambda: _processes(service) == [new], 20)
    assert set(load.outcomes) == {"OK"}
    _has_its_own_name(service, "nginx")
    assert service.place(SHIM).stat().st_ino == inode
    assert service.shows("containerd.service", "MainPID") == runtime
    assert service.shows(SERVICE, "NRestarts") == restarts
    assert service.shows(SERVICE, "ActiveState") == "active"
    assert "serving" in service.shows(SERVICE, "StatusText")


def _has_its_own_name(machine: Machine, image: str) -> None:
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        found = client.image_status(f"{image}:latest")
    assert found is not None
    assert f"docker.io/library/{image}:latest" in found.tags
    assert not [name for name in found.names if "sealos.hub" in name]


def _until(ended: threading.Event) -> Iterator[bytes]:
    yield b"open"
    ended.wait(120)


def test_systemd_watches_the_successor(service: Machine) -> None:
    """One that is killed is started anew; the watchdog is fed; a stop ends it."""
    _hand_over(service)
    new = _main_pid(service)
    assert service.run("ps", "-o", "ppid=", "-p", str(new)).stdout.strip() == "1"
    time.sleep(12)  # more than a third of WatchdogSec=: it has been fed, and nobody complains
    assert "reception only permitted" not in service.run("journalctl", "-b").stdout
    service.run("kill", "-9", str(new), check=True)
    wait_for("a start", lambda: _main_pid(service) not in (0, new), 20)
    wait_for("an answer", lambda: _answers(service), 20)
    service.systemctl("stop", SERVICE)
    assert service.shows(SERVICE, "Result") == "success"


def test_a_successor_that_dies_leaves_the_old_one_its_calls(service: Machine) -> None:
    """Killed while the old one still pulls: the pull ends well, a third process serves."""
    old = _main_pid(service)
    with _pulling(service, "busybox:latest") as pull:
        _hand_over(service)
        service.run("kill", "-9", str(_main_pid(service)), check=True)
        wait_for("another", lambda: _main_pid(service) not in (0, old), 20)
        assert old in _processes(service)
        assert pull.result(90).startswith("sha256:")
    _has_its_own_name(service, "busybox")


def test_a_version_that_does_not_start(service: Machine) -> None:
    """The old process goes on, and the line says why."""
    old = _main_pid(service)
    service.add("/opt/broken/image-cri-shim", "#!/bin/sh\nexit 3\n", 0o755)
    done = service.run("image-cri-shim", "hand-over", "--command", "/opt/broken/image-cri-shim")
    assert done.returncode == 1
    assert "ended before it was able" in done.stderr
    assert _main_pid(service) == old
    assert _answers(service)
    assert service.run("image-cri-shim", "status", "-o", "json").stdout.count(SHIM) >= 1


def test_install_service_hands_over_to_another_command(service: Machine) -> None:
    """A unit that starts another command is put in force without a restart."""
    old, restarts = _main_pid(service), service.shows(SERVICE, "NRestarts")
    link = service.place("/opt/next/image-cri-shim")
    link.parent.mkdir()
    link.symlink_to(COMMAND)
    done = service.run(
        "image-cri-shim", "install-service", "--now", "--command", "/opt/next/image-cri-shim"
    )
    assert done.returncode == 0, done.stderr
    assert "handed over" in done.stdout
    assert _main_pid(service) != old
    assert service.shows(SERVICE, "NRestarts") == restarts
    command = service.place(f"/proc/{_main_pid(service)}/cmdline").read_bytes().split(b"\0")
    assert b"/opt/next/image-cri-shim" in command
