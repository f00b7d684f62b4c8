"""Processes that come and go: containerd under the shim, the shim under its clients."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.e2e.conftest import HUB_LOGIN, Shims
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import unix_answers, wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.e2e


def refused(client: CriClient) -> grpc.StatusCode | None:
    """The status that a Version call ends with; None when it is answered."""
    try:
        client.version()
    except CallError as error:
        return error.code
    return None


def answers_again(client: CriClient, timeout_s: float = 10) -> None:
    wait_for("an answer", lambda: refused(client) is None, timeout_s)


@pytest.mark.releases
def test_containerd_is_killed_under_the_shim(
    runtime: Containerd, shim: Shim, crictl: Crictl
) -> None:
    """Calls fail with UNAVAILABLE while it is gone and work again once it is back."""
    assert crictl.pull("nginx:latest").status == 0
    with CriClient(shim.socket, timeout_s=5) as client:
        assert refused(client) is None
        runtime.kill()
        assert refused(client) is grpc.StatusCode.UNAVAILABLE
        assert shim.running
        runtime.serve()
        answers_again(client)
        assert client.image_status("nginx:latest") is not None
    assert crictl.pull("busybox:1.36").status == 0
    assert shim.exit_status is None


@pytest.mark.releases
def test_a_pull_in_flight_when_containerd_dies(
    runtime: Containerd, shim: Shim, hub: Recorder
) -> None:
    """The pull ends with UNAVAILABLE, at once; the same pull works when containerd is back."""
    hub.delay_s = 1
    with CriClient(shim.socket) as client:
        threading.Timer(1.5, runtime.kill).start()
        with pytest.raises(CallError) as caught:
            client.pull("nginx:latest")
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        hub.delay_s = 0
        wait_for("containerd's end", lambda: not runtime.running, 15)
        runtime.serve()
        answers_again(client)
        client.pull("nginx:latest")


@pytest.mark.releases
def test_the_shim_is_killed_under_crictl(shim: Shim, crictl: Crictl, direct: Crictl) -> None:
    """Killed and started again, it takes its stale socket over; an open client reconnects."""
    assert crictl.pull("nginx:latest").status == 0
    with CriClient(shim.socket, timeout_s=5) as client:
        assert refused(client) is None
        shim.kill()
        assert shim.socket.exists()
        assert refused(client) is grpc.StatusCode.UNAVAILABLE
        assert crictl.run("version", timeout_s=2).status != 0
        assert direct.run("version").status == 0
        shim.serve()
        answers_again(client)
        assert client.image_status("nginx:latest") is not None
    assert crictl.inspecti("nginx:latest") is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_pull_is_drained(number: signal.Signals, shim: Shim, hub: Recorder) -> None:
    """After SIGTERM or SIGINT new connections are refused, the pull ends well, status is 0."""
    hub.delay_s = 0.7
    outcome: list[str] = []

    def pull() -> None:
        with CriClient(shim.socket) as client:
            outcome.append(client.pull("nginx:latest"))

    thread = threading.Thread(target=pull)
    thread.start()
    wait_for("the pull", lambda: any(seen.by_runtime for seen in hub.seen), 10)
    shim.signal(number)
    wait_for("the closed socket", lambda: not unix_answers(shim.socket), 15)
    assert thread.is_alive()
    thread.join(30)
    assert len(outcome) == 1
    assert shim.wait(15) == 0
    assert not shim.socket.exists()
    assert "Traceback" not in shim.text()


def test_an_idle_shim_stops_at_once(shim: Shim) -> None:
    """SIGTERM with an idle connection open ends it with status 0; calls would get 30 s."""
    with CriClient(shim.socket) as client:
        client.version()
        started = time.monotonic()
        assert shim.stop() == 0
    assert time.monotonic() - started < 10


def test_reload(
    shims: Shims,
    hub_config: dict[str, Any],
    via_crictl: Callable[[Shim], Crictl],
    public: Recorder,
) -> None:
    """SIGHUP takes a good file over, says why a bad one is not, and keeps serving."""
    shim = shims.serve({**hub_config, "reloadInterval": "1h", "exclude": ["docker.io/library/*"]})
    crictl = via_crictl(shim)
    assert crictl.pull("nginx:latest").status != 0
    assert public.seen
    shim.write({**shim.values, "addres": "http://nowhere"})
    shim.signal(signal.SIGHUP)
    wait_for("the reason", lambda: "addres" in shim.text(), 15)
    assert crictl.run("version").status == 0
    shim.write({**shim.values, "exclude": []})
    shim.signal(signal.SIGHUP)
    wait_for("the new config", lambda: crictl.pull("nginx:latest").status == 0, 15)


def test_a_changed_file_is_noticed(
    shims: Shims, hub_config: dict[str, Any], via_crictl: Callable[[Shim], Crictl]
) -> None:
    """Without a signal, a new password is in force after reloadInterval."""
    shim = shims.serve({**hub_config, "auth": "hub-user:wrong"})
    crictl = via_crictl(shim)
    assert crictl.pull("nginx:latest").status != 0
    shim.write({**shim.values, "auth": HUB_LOGIN})
    wait_for("the new password", lambda: crictl.pull("nginx:latest").status == 0, 10)


def test_a_socket_wider_than_0660(runtime: Containerd, shims: Shims, hub_config: Any) -> None:
    """The runtime's group is taken over; its mode only up to 0660."""
    before = runtime.socket.stat()
    os.chown(runtime.socket, 0, 4321)
    os.chmod(runtime.socket, 0o666)
    try:
        shim = shims.serve(hub_config)
        ours = shim.socket.stat()
        assert (ours.st_uid, ours.st_gid) == (0, 4321)
        assert stat.S_IMODE(ours.st_mode) == 0o660
    finally:
        os.chown(runtime.socket, before.st_uid, before.st_gid)
        os.chmod(runtime.socket, stat.S_IMODE(before.st_mode))


def test_force_listens_before_the_runtime_is_up(
    runtime: Containerd, shims: Shims, hub_config: Any
) -> None:
    """force: true serves at once, with UNAVAILABLE until containerd is there."""
    runtime.stop()
    shim = shims.serve({**hub_config, "force": True})
    with CriClient(shim.socket, timeout_s=5) as client:
        assert refused(client) is grpc.StatusCode.UNAVAILABLE
        runtime.serve()
        answers_again(client)


def test_without_force_the_runtime_is_waited_for(
    runtime: Containerd, shims: Shims, hub_config: Any
) -> None:
    """force: false opens the socket only when containerd answers, and says that it waits."""
    runtime.stop()
    shim = shims.make({**hub_config, "force": False})
    shim.start()
    wait_for("a word on waiting", lambda: str(runtime.socket) in shim.text(), 10)
    assert not unix_answers(shim.socket)
    runtime.serve()
    wait_for("the socket", lambda: unix_answers(shim.socket), 10)
