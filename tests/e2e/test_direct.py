"""The harness itself, with no shim: what real containerd does is what later tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import HUB_LOGIN, MIRROR_LOGIN, TOKEN_LOGIN
from tests.e2e.support import images
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.releases]


def test_a_pod_runs_from_the_htpasswd_registry(
    direct: Crictl, hub: Recorder, tmp_path: Path
) -> None:
    """crictl pulls with a password, and a pod of that image runs, answers, logs and stops."""
    image = f"{hub.host}/library/busybox:1.36"
    assert direct.pull(image).status != 0
    pulled = direct.pull(image, credentials=HUB_LOGIN)
    assert pulled.status == 0, pulled.err
    pod = direct.run_pod("direct")
    container = direct.create(pod, "direct", image, ["sh", "-c", "echo hello; sleep 600"])
    direct.ok("start", container)
    assert direct.ok("exec", "-s", container, "cat", "/marker").strip() == "busybox"
    assert direct.ok("exec", container, "echo", "streamed").strip() == "streamed"
    wait_for("the log", lambda: "hello" in direct.ok("logs", container), 15)
    direct.ok("stop", "-t", "0", container)
    direct.ok("rmp", "-f", pod)


def test_https_with_a_private_ca(direct: Crictl, mirror: Registry) -> None:
    """containerd pulls over https once its hosts.toml names the CA."""
    mirror.push(images.small("tls"), "library/tls", "1")
    pulled = direct.pull(f"{mirror.host}/library/tls:1", credentials=MIRROR_LOGIN)
    assert pulled.status == 0, pulled.err


def test_token_server(direct: Crictl, token_registry: Registry) -> None:
    """containerd pulls from the registry that wants tokens, and not without the password."""
    token_registry.push(images.small("token"), "library/token", "1")
    image = f"{token_registry.host}/library/token:1"
    assert direct.pull(image, credentials="token-user:wrong").status != 0
    pulled = direct.pull(image, credentials=TOKEN_LOGIN)
    assert pulled.status == 0, pulled.err


def test_the_public_registry_is_closed(direct: Crictl, public: Recorder) -> None:
    """docker.io is a stand-in of the tests: it sees the client's login and has nothing."""
    assert direct.pull("nginx:latest", credentials="me:secret").status != 0
    assert public.credentials() == {"Basic bWU6c2VjcmV0"}


def test_a_second_name_is_seen_at_once(
    direct: Crictl, node_client: CriClient, hub: Recorder
) -> None:
    """A name added to containerd's image store is found by the CRI plugin."""
    image = f"{hub.host}/library/nginx:latest"
    assert direct.pull(image, credentials=HUB_LOGIN).status == 0
    record = node_client.store()[image]
    name = "docker.io/library/nginx:latest"
    node_client.store_name(name, record)
    assert node_client.wait_for_image("nginx:latest") < 2
    seen = node_client.image_status("nginx:latest")
    assert seen is not None
    assert seen.username == "web"
    assert name in seen.tags


def test_images_survive_a_crash(direct: Crictl, runtime: Containerd, hub: Recorder) -> None:
    """Killed and started again on the same directories, containerd has its images."""
    image = f"{hub.host}/library/busybox:1.36"
    assert direct.pull(image, credentials=HUB_LOGIN).status == 0
    assert runtime.kill() == -9
    runtime.serve()
    assert direct.inspecti(image) is not None
