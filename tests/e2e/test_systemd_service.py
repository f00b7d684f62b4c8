"""The service under a real systemd: started, stopped, killed, hung, reloaded, restarted."""

from __future__ import annotations

import concurrent.futures
import re
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.e2e.conftest import refuse
from tests.e2e.support import systemd_tree
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.systemd_tree import Machine, following, node

pytestmark = pytest.mark.e2e

SERVICE = "image-cri-shim.service"
SOCKET = "image-cri-shim.socket"
CONFIG = "/etc/image-cri-shim.yaml"
SHIM = "/run/image-cri-shim.sock"
LAST_GOOD = "/var/lib/image-cri-shim/last-good.json"
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
    """The same, running, whatever the test before has done."""
    machine.add(CONFIG, HUB, 0o600)
    machine.place("/run/node/slow").unlink(missing_ok=True)
    machine.systemctl("start", "containerd.service", SERVICE)
    wait_for("an answer", lambda: answers(machine), 20)
    return machine


@pytest.fixture
def client(service: Machine) -> Iterator[CriClient]:
    with CriClient(service.place(SHIM), timeout_s=20) as opened:
        yield opened


def answers(machine: Machine) -> bool:
    with CriClient(machine.place(SHIM), timeout_s=5) as client:
        try:
            client.version()
        except CallError:
            return False
    return True


def one_thread() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1)


def main_pid(machine: Machine) -> int:
    return int(machine.shows(SERVICE, "MainPID"))


def status_line(machine: Machine) -> str:
    return machine.shows(SERVICE, "StatusText")


def test_verify_is_silent(service: Machine) -> None:
    """`systemd-analyze verify` has nothing to say about either unit."""
    done = service.run("systemd-analyze", "verify", SERVICE, SOCKET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_security(service: Machine, record_property: Callable[[str, object], None]) -> None:
    """`systemd-analyze security` rates the service 2.0 or better."""
    text = service.run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
    found = re.search(rf"Overall exposure level for {SERVICE}: (\d+\.\d+)", text)
    assert found, text
    record_property("exposure", found[1])
    print(found[0])
    assert float(found[1]) <= 2.0


def test_root_has_no_powers_in_it(service: Machine) -> None:
    """No capability is left, and no privilege can be gained."""
    status = service.place(f"/proc/{main_pid(service)}/status").read_text()
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{name}:\s+0+$", status, re.MULTILINE), name
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_pull_through_the_hub(client: CriClient) -> None:
    """All that the service does works under its restrictions: sockets, HTTP, naming."""
    assert client.pull("nginx:latest").startswith("sha256:")
    found = client.image_status("nginx:latest")
    assert found is not None
    assert found.tags == ("docker.io/library/nginx:latest",)


def test_status_and_order(service: Machine) -> None:
    """`systemctl status` says what it serves; it stands between the runtime and kubelet."""
    done = service.run("systemctl", "status", SERVICE)
    assert done.returncode == 0
    assert "serving" in status_line(service)
    assert status_line(service) in done.stdout
    assert "containerd.service" in service.shows(SERVICE, "After").split()
    assert "kubelet.service" in service.shows(SERVICE, "Before").split()
    for unit in (SERVICE, SOCKET):
        assert service.run("systemctl", "is-enabled", unit).stdout == "enabled\n"


def test_stop_and_start(service: Machine) -> None:
    """Stopping the service leaves its socket; stopping the socket stops both."""
    service.systemctl("stop", SERVICE)
    assert service.shows(SERVICE, "Result") == "success"
    assert service.shows(SERVICE, "ExecMainStatus") == "0"
    assert service.shows(SOCKET, "ActiveState") == "active"
    service.systemctl("start", SERVICE)
    assert service.shows(SERVICE, "ActiveState") == "active"
    service.systemctl("stop", SOCKET)
    assert service.shows(SERVICE, "ActiveState") == "inactive"
    assert not service.place(SHIM).exists()


def test_a_connection_starts_the_service(service: Machine) -> None:
    """The call waits for the start instead of being refused."""
    service.systemctl("stop", SERVICE)
    with CriClient(service.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")
    wait_for("the start", lambda: service.shows(SERVICE, "ActiveState") == "active", 10)


def test_a_killed_process_is_replaced(service: Machine) -> None:
    """A second later another one serves; a call made in between is answered by it."""
    killed = main_pid(service)
    service.run("kill", "-KILL", str(killed), check=True)
    wait_for("the end of it", lambda: main_pid(service) != killed, 15)
    with CriClient(service.place(SHIM), timeout_s=20) as client:
        assert client.version() == ("stand-in", "v1")
    assert main_pid(service) not in (0, killed)


def test_a_hung_process_is_replaced(service: Machine) -> None:
    """SIGSTOP: the watchdog notices, and a new process serves."""
    drop_in = f"/run/systemd/system/{SERVICE}.d/watchdog.conf"
    service.add(drop_in, "[Service]\nWatchdogSec=6\n")
    service.systemctl("daemon-reload")
    service.systemctl("restart", SERVICE)
    hung = main_pid(service)
    try:
        # Fed for longer than the limit, it goes on.
        time.sleep(9)
        assert main_pid(service) == hung
        service.run("kill", "-STOP", str(hung), check=True)
        wait_for("another process", lambda: main_pid(service) not in (0, hung), 30)
        wait_for("an answer", lambda: answers(service), 30)
        wait_for("its reason", lambda: "Watchdog timeout" in service.journal("--boot"), 30)
    finally:
        service.place(drop_in).unlink()
        service.systemctl("daemon-reload")
        service.systemctl("restart", SERVICE)


def test_a_runtime_that_is_down_is_reported_and_no_reason_to_restart(service: Machine) -> None:
    """The status line says it; the process stays, and serves again with the runtime."""
    drop_in = f"/run/systemd/system/{SERVICE}.d/watchdog.conf"
    service.add(drop_in, "[Service]\nWatchdogSec=6\n")
    service.systemctl("daemon-reload")
    service.systemctl("restart", SERVICE)
    pid = main_pid(service)
    try:
        service.systemctl("stop", "containerd.service")
        wait_for("the status line", lambda: "not ready" in status_line(service), 30)
        time.sleep(9)
        assert main_pid(service) == pid
        service.systemctl("start", "containerd.service")
        wait_for("the status line", lambda: "not ready" not in status_line(service), 30)
        wait_for("an answer", lambda: answers(service), 30)
        assert main_pid(service) == pid
    finally:
        service.place(drop_in).unlink()
        service.systemctl("daemon-reload")
        service.systemctl("restart", SERVICE)


def test_a_start_waits_for_the_runtime(service: Machine) -> None:
    """Not ready before the runtime answers; calls wait in the socket until then."""
    service.systemctl("stop", SERVICE)
    service.systemctl("stop", "containerd.service")
    service.systemctl("start", "--no-block", SERVICE)
    wait_for("the status line", lambda: "waiting" in status_line(service), 10)
    assert service.shows(SERVICE, "ActiveState") == "activating"
    with CriClient(service.place(SHIM), timeout_s=20) as client, one_thread() as pool:
        call = pool.submit(client.version)
        time.sleep(0.5)
        assert not call.done()
        service.systemctl("start", "containerd.service")
        assert call.result(20) == ("stand-in", "v1")


def test_a_good_configuration_is_reloaded(service: Machine, client: CriClient) -> None:
    """`systemctl reload` puts it in force; the process and its connections stay."""
    client.version()
    pid = main_pid(service)
    service.add(CONFIG, HUB + "debug: true\nexclude: ['busybox']\n", 0o600)
    service.systemctl("reload", SERVICE)
    wait_for("the reload", lambda: "configuration reloaded" in service.journal("-n", "20"), 10)
    assert main_pid(service) == pid
    assert client.version() == ("stand-in", "v1")
    assert client.pull("nginx:latest")


def test_a_bad_configuration_is_refused(service: Machine, client: CriClient) -> None:
    """`systemctl reload` fails, the journal names the key, the old one stays in force."""
    pid = main_pid(service)
    service.add(CONFIG, HUB + "adress: typo\n", 0o600)
    assert service.run("systemctl", "reload", SERVICE).returncode == 1
    wait_for("the key", lambda: "adress" in service.journal("-n", "20"), 20)
    assert service.shows(SERVICE, "ActiveState") == "active"
    assert main_pid(service) == pid
    assert client.pull("nginx:latest")


def test_a_bad_configuration_at_the_start(service: Machine) -> None:
    """Without a copy of a good one it is tried again until it is mended, or five times; a call
    waits that long."""
    service.systemctl("stop", SERVICE)
    service.place("/run/image-cri-shim.failures").unlink(missing_ok=True)
    service.place(LAST_GOOD).unlink(missing_ok=True)
    service.add(CONFIG, "address: http://sealos.hub:5000\ntimeout: soon\n", 0o600)
    service.run("systemctl", "start", SERVICE)
    wait_for("more tries", lambda: int(service.shows(SERVICE, "NRestarts")) >= 3, 20)
    wait_for("the key", lambda: "timeout" in service.journal("-n", "20"), 20)
    assert service.shows(SOCKET, "ActiveState") == "active"
    with CriClient(service.place(SHIM), timeout_s=20) as client, one_thread() as pool:
        call = pool.submit(client.version)
        service.add(CONFIG, HUB, 0o600)
        assert call.result(20) == ("stand-in", "v1")


def test_the_last_good_configuration_at_the_start(service: Machine) -> None:
    """A typo and a reboot: the node has its runtime, the journal has the fault."""
    wait_for("the copy", service.place(LAST_GOOD).exists, 10)
    assert service.place(LAST_GOOD).stat().st_mode & 0o777 == 0o600
    service.add(CONFIG, HUB + "adress: typo\n", 0o600)
    service.systemctl("restart", SERVICE)
    wait_for("an answer", lambda: answers(service), 20)
    said = "the last good configuration"
    wait_for(said, lambda: said in service.journal("--priority=warning", "-n", "20"), 20)
    assert service.shows(SERVICE, "ActiveState") == "active"


class TestJournal:
    def test_it_is_found_by_its_unit(self, service: Machine) -> None:
        """`journalctl -u`, with priorities: a fault of the configuration is an error."""
        service.add(CONFIG, HUB + "adress: typo\n", 0o600)
        service.run("systemctl", "kill", "--signal=HUP", SERVICE, check=True)
        wait_for("the error", lambda: "adress" in service.journal("--priority=err"), 10)
        assert "serving" in service.journal()
        assert "serving" not in service.journal("--priority=warning")
        fields = service.journal("--output=verbose", "--grep=serving", "-n", "1")
        assert "SYSLOG_IDENTIFIER=image-cri-shim" in fields
        assert "PRIORITY=6" in fields

    def test_since(self, service: Machine) -> None:
        """`--since` leaves out what was before."""
        time.sleep(1.1)
        service.run("systemctl", "kill", "--signal=HUP", SERVICE, check=True)
        stamp = service.run("date", "-d", "-1 second", "+%F %T").stdout.strip()
        wait_for("the reload", lambda: "reload" in service.journal("--since", stamp), 10)
        assert len(service.journal("--since", stamp)) < len(service.journal())
        assert "No entries" in service.journal("--since", "now")

    def test_follow(self, service: Machine) -> None:
        """`-f` shows a line when it is written."""
        since = service.run("date", "+@%s.%6N").stdout.strip()
        command = ["journalctl", "--unit", SERVICE, "--follow", f"--since={since}"]
        with following(service, *command) as journal:
            time.sleep(0.5)
            service.systemctl("restart", SERVICE)
            assert journal.stdout is not None
            timer = threading.Timer(20, journal.kill)
            timer.start()
            seen = any("serving" in line for line in journal.stdout)
            timer.cancel()
        assert seen

    def test_no_password(self, service: Machine) -> None:
        """Whatever has happened here, the journal has no secret."""
        assert "pass:word" not in service.journal("--output=verbose")


class TestRestart:
    def test_in_the_middle_of_a_pull(self, service: Machine, client: CriClient) -> None:
        """The pull finishes; status calls all the while end well or with UNAVAILABLE."""
        client.pull("nginx:latest")
        service.place("/run/node/pulling").unlink(missing_ok=True)
        service.place("/run/node/slow").write_text("3")
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            pulling = pool.submit(self._pull, client)
            asking = [pool.submit(self._ask, service, stop) for _ in range(4)]
            try:
                wait_for("the pull", service.place("/run/node/pulling").exists, 30)
                started = time.monotonic()
                service.systemctl("restart", SERVICE)
                took = time.monotonic() - started
                assert pulling.result(60) in ("finished", "UNAVAILABLE")
                time.sleep(1)
            finally:
                stop.set()
            outcomes = [each for future in asking for each in future.result(30)]
        slowest = max(seconds for _, seconds in outcomes)
        kinds = {kind for kind, _ in outcomes}
        failed = sum(kind != "OK" for kind, _ in outcomes)
        print(
            f"restart {took:.1f} s, pull {pulling.result()}, {len(outcomes)} status calls, "
            f"{failed} UNAVAILABLE, slowest {slowest:.1f} s"
        )
        assert kinds <= {"OK", "UNAVAILABLE"}
        assert slowest < took + 3
        assert pulling.result() == "finished"

    def test_idle_connections_move_over(self, service: Machine, client: CriClient) -> None:
        """A client that was connected before is served by the new process."""
        client.version()
        before = main_pid(service)
        started = time.monotonic()
        service.systemctl("restart", SERVICE)
        print(f"idle restart: {time.monotonic() - started:.2f} s")
        assert main_pid(service) != before
        assert client.version() == ("stand-in", "v1")

    @staticmethod
    def _pull(client: CriClient) -> str:
        try:
            client.pull("busybox:latest", timeout_s=40)
        except CallError as error:
            return error.code.name
        return "finished"

    @staticmethod
    def _ask(service: Machine, stop: threading.Event) -> list[tuple[str, float]]:
        outcomes = []
        with CriClient(service.place(SHIM), timeout_s=25) as client:
            while not stop.is_set():
                started = time.monotonic()
                code = grpc.StatusCode.OK
                try:
                    assert client.image_status("nginx:latest") is not None
                except CallError as error:
                    code = error.code
                outcomes.append((code.name, time.monotonic() - started))
                time.sleep(0.01)
        return outcomes
