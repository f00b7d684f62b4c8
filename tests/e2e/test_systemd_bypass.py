"""A shim that cannot start, under a real systemd: its socket is served all the same."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.systemd_tree import PREFIX, Machine, node

pytestmark = pytest.mark.e2e

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
BYPASS = "image-cri-shim-bypass.service"
CONFIG = "/etc/image-cri-shim.yaml"
SHIM = "/run/image-cri-shim.sock"
LINK = "/var/lib/image-cri-shim/bypass"
INTERPRETER = f"{PREFIX}/bin/python3"
HUB = "address: http://sealos.hub:5000\nauth: admin:pass:word\nreloadInterval: 1h\n"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A booted Debian with the service installed and started."""
    if missing := systemd_tree.missing():
        refuse("needs " + ", ".join(missing))
    with node() as booted:
        booted.add(CONFIG, HUB, 0o600)
        booted.run("image-cri-shim", "install-service", "--now", check=True)
        yield booted


class Interpreter:
    """The Python of the shim, which can be taken away. The runtime has one of its own running."""

    def __init__(self, machine: Machine) -> None:
        self._place = machine.place(INTERPRETER)

    def delete(self) -> None:
        self._place.rename(self._place.with_name("python3.gone"))

    def bring_back(self) -> None:
        self._place.with_name("python3.gone").rename(self._place)


def state(machine: Machine, unit: str) -> str:
    return machine.shows(unit, "ActiveState")


def kill(machine: Machine) -> None:
    machine.run("systemctl", "kill", "--signal=KILL", SERVICE, check=True)


def status(machine: Machine) -> tuple[int, str]:
    """`status` by the system's Python, which is there when the service's is gone."""
    program = "import sys; sys.argv[0] = 'image-cri-shim'; from cli.main import run; run()"
    path = f"PYTHONPATH={PREFIX}/lib/python3.11/site-packages:{PREFIX}/packages"
    done = machine.run("env", path, "/usr/bin/python3", "-c", program, "status", "--file", CONFIG)
    return done.returncode, done.stdout + done.stderr


class Asking:
    """A client that asks for the version all the while, as kubelet does, and notes the gaps."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.codes: list[str] = []
        self.answered: list[float] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def longest_gap(self, since: float) -> float:
        times = [since, *(each for each in self.answered if each > since)]
        return max(after - before for before, after in itertools.pairwise(times))

    def _ask(self) -> None:
        with CriClient(self._machine.place(SHIM), timeout_s=30) as client:
            while not self._stop.is_set():
                code = grpc.StatusCode.OK
                try:
                    client.version()
                    self.answered.append(time.monotonic())
                except CallError as error:
                    code = error.code
                self.codes.append(code.name)
                time.sleep(0.02)


def test_the_interpreter_goes_and_returns(machine: Machine) -> None:
    """Killed and unable to start: calls go to the runtime; with it back, the shim serves again."""
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        client.pull("nginx:latest")
    assert machine.place(LINK).is_symlink()
    interpreter = Interpreter(machine)
    interpreter.delete()
    with Asking(machine) as asking:
        killed = time.monotonic()
        kill(machine)
        wait_for("the bypass", lambda: state(machine, BYPASS) == "active", 60)
        print(f"the bypass serves {time.monotonic() - killed:.1f} s after the kill")
        wait_for("an answer", lambda: asking.answered[-1:] > [killed + 5], 30)
        print(f"longest without an answer: {asking.longest_gap(killed):.1f} s")
        with CriClient(machine.place(SHIM), timeout_s=20) as client:
            assert client.version() == ("stand-in", "v1")
            assert client.image_status("nginx:latest") is not None
            assert client.image_status("docker.io/library/absent:1") is None
        wait_for("the end of the tries", lambda: state(machine, SERVICE) == "failed", 10)
        assert state(machine, SOCKET) == "active"

        code, said = status(machine)
        assert code == 1, said
        assert "bypass" in said
        warned = machine.run("journalctl", "--unit", BYPASS, "--priority=warning").stdout
        assert "its socket goes to the runtime as it is" in warned

        # One try that fails changes nothing.
        before = machine.journal().count("status=203/EXEC")
        wait_for("a try", lambda: machine.journal().count("status=203/EXEC") > before, 45)
        wait_for("its end", lambda: state(machine, SERVICE) == "failed", 10)
        assert state(machine, BYPASS) == "active"

        interpreter.bring_back()
        back = time.monotonic()
        wait_for("the shim", lambda: state(machine, SERVICE) == "active", 60)
        wait_for("the end of the bypass", lambda: state(machine, BYPASS) == "inactive", 10)
        print(f"the shim serves {time.monotonic() - back:.1f} s after it could")
        time.sleep(1)
        gap = asking.longest_gap(back)
        print(f"longest without an answer on the way back: {gap:.2f} s; codes {set(asking.codes)}")
        assert gap < 20
    assert set(asking.codes) <= {"OK", "UNAVAILABLE"}
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.pull("busybox:latest").startswith("sha256:")
    assert status(machine)[0] == 0


def test_a_configuration_that_cannot_be_used(machine: Machine) -> None:
    """Without a good copy of it either; mended and restarted by hand, the shim is back at once."""
    machine.systemctl("stop", SERVICE)
    kept = ["-type", "f", "!", "-name", "installed.json", "!", "-path", "*/originals/*"]
    machine.run("find", "/var/lib/image-cri-shim", *kept, "-delete", check=True)
    machine.add(CONFIG, "address: [\n", 0o600)
    machine.run("systemctl", "start", SERVICE)
    wait_for("the bypass", lambda: state(machine, BYPASS) == "active", 60)
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")
    machine.add(CONFIG, HUB, 0o600)
    # systemd's own next try may take the place of this one: "canceled" is said then.
    machine.run("systemctl", "restart", SERVICE)
    wait_for("the end of the bypass", lambda: state(machine, BYPASS) == "inactive", 10)
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.pull("busybox:latest").startswith("sha256:")


def test_a_full_disk(machine: Machine) -> None:
    """Where no temporary file can be made the shim starts all the same, and so does the bypass."""
    for place in ("/tmp", "/var/tmp"):
        mount = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "tmpfs", place]
        machine.run(*mount, check=True)
    machine.systemctl("restart", SERVICE)
    assert state(machine, SERVICE) == "active"
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.pull("nginx:latest").startswith("sha256:")
    Interpreter(machine).delete()
    kill(machine)
    wait_for("the bypass", lambda: state(machine, BYPASS) == "active", 60)
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")


def test_closed(machine: Machine) -> None:
    """Under `fallback: deny` nobody goes past the shim: calls wait until it starts."""
    machine.add(CONFIG, HUB + "fallback: deny\n", 0o600)
    machine.systemctl("reload", SERVICE)
    wait_for("no way past", lambda: not machine.place(LINK).is_symlink(), 10)
    interpreter = Interpreter(machine)
    interpreter.delete()
    kill(machine)
    wait_for("tries", lambda: int(machine.shows(SERVICE, "NRestarts")) >= 7, 60)
    machine.run("systemctl", "start", BYPASS)
    assert state(machine, BYPASS) == "inactive"
    with CriClient(machine.place(SHIM), timeout_s=3) as client, pytest.raises(CallError):
        client.version()
    interpreter.bring_back()
    with CriClient(machine.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")


def test_the_socket_ends_everything(machine: Machine) -> None:
    """Stopping the socket stops the bypass too, and nothing starts again."""
    Interpreter(machine).delete()
    kill(machine)
    wait_for("the bypass", lambda: state(machine, BYPASS) == "active", 60)
    machine.systemctl("stop", SOCKET)
    wait_for("the end of the bypass", lambda: state(machine, BYPASS) == "inactive", 20)
    time.sleep(3)
    assert state(machine, BYPASS) == "inactive"
    assert state(machine, SERVICE) in ("failed", "inactive")
    assert not machine.place(SHIM).exists()


def test_verify_is_silent(machine: Machine) -> None:
    """`systemd-analyze verify` has nothing to say."""
    done = machine.run("systemd-analyze", "verify", BYPASS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
