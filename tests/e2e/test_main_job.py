"""The main job: a plain name asked of the shim's socket is pulled from the hub by containerd."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import grpc
import pytest

from tests.e2e.conftest import HUB_LOGIN, Direct, on_node
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder
from tests.e2e.support.shim import Shim

pytestmark = [pytest.mark.e2e, pytest.mark.releases]

ORIGINAL = "docker.io/library/nginx:latest"
CLIENT_LOGIN = "me:secret"


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def test_a_plain_name_is_pulled_from_the_hub(
    past: Direct, shim: Shim, node_client: CriClient, hub: Recorder, public: Recorder
) -> None:
    """With the answer the node is as if docker.io had given it, and docker.io is not asked.

    Names, targets and labels are those of a direct pull; the hub is named nowhere.
    """
    wanted = past.leaves("nginx:latest")
    with CriClient(shim.socket) as client:
        reference = client.pull("nginx:latest")
        store = on_node(node_client)
        seen = node_client.image_status("nginx:latest")
        listed = node_client.images()
        through = client.image_status("nginx:latest")
    assert store == wanted
    assert ORIGINAL in store
    assert seen is not None
    assert seen.id == reference
    assert seen == through
    assert seen.names == store.keys() - {seen.id}
    assert seen in listed
    assert not [name for view in listed for name in view.names if hub.host in name]
    assert any(one.by_runtime for one in hub.seen)
    assert public.seen == []


def test_image_commands(crictl: Crictl, node_client: CriClient, hub: Recorder) -> None:
    """inspecti, images and rmi work under the name that people write."""
    assert crictl.inspecti("nginx:latest") is None
    assert crictl.pull("nginx:latest").status == 0
    status = crictl.inspecti("nginx:latest")
    assert status is not None
    assert status["username"] == "web"
    tags = [tag for image in crictl.json("images")["images"] for tag in image["repoTags"]]
    assert ORIGINAL in tags
    assert not [tag for tag in tags if hub.host in tag]
    crictl.ok("rmi", "nginx:latest")
    assert crictl.inspecti("nginx:latest") is None
    assert not [name for name in node_client.store() if "nginx" in name]


def test_runtime_commands(crictl: Crictl, direct: Crictl) -> None:
    """info and version are containerd's own, as it answers without the shim."""
    assert crictl.ok("version") == direct.ok("version")
    through, past = crictl.json("info"), direct.json("info")
    assert through["status"] == past["status"]
    assert through["config"] == past["config"]


def test_a_pod(crictl: Crictl, node_client: CriClient) -> None:
    """A pod whose container names busybox:1.36 runs, answers, logs and stops."""
    assert crictl.pull("busybox:1.36").status == 0
    pod = crictl.run_pod("plain")
    container = crictl.create(pod, "plain", "busybox:1.36", ["sh", "-c", "echo hello; sleep 600"])
    crictl.ok("start", container)
    assert crictl.ok("exec", "-s", container, "cat", "/marker").strip() == "busybox"
    assert crictl.ok("exec", container, "echo", "streamed").strip() == "streamed"
    wait_for("the log", lambda: "hello" in crictl.ok("logs", container), 15)
    crictl.ok("stop", "-t", "0", container)
    crictl.ok("stopp", pod)
    crictl.ok("rmp", pod)
    assert crictl.json("pods")["items"] == []


def test_both_cri_versions(
    api: str, shim: Shim, node_client: CriClient, hub: Recorder, tmp_path: Path
) -> None:
    """A client of either version pulls, finds, runs and removes under the plain name."""
    with CriClient(shim.socket, api) as client:
        assert client.version() == ("containerd", api)
        assert client.image_status("busybox:1.36") is None
        reference = client.pull("busybox:1.36")
        seen = client.image_status("busybox:1.36")
        assert seen is not None
        assert seen.id == reference
        assert seen.tags == ("docker.io/library/busybox:1.36",)
        assert not [name for name in seen.names if hub.host in name]
        pod = client.run_pod(api, tmp_path)
        container = client.create_container(pod, api, "busybox:1.36", ["sleep", "600"], tmp_path)
        client.start_container(container)
        assert client.exec_sync(container, ["cat", "/marker"]) == "busybox"
        client.remove_pod(pod)
        assert "docker.io/library/busybox:1.36" in node_client.store()
        client.remove_image("busybox:1.36")
        assert client.image_status("busybox:1.36") is None
        assert not [tag for image in client.images() for tag in image.tags if "busybox" in tag]


@pytest.mark.parametrize("tag", ["", ":latest"])
def test_a_digest_is_kept(
    tag: str, past: Direct, shim: Shim, node_client: CriClient, public: Recorder
) -> None:
    """A pinned image is asked for by its digest; one that the hub lacks is not replaced."""
    digest = past.leaves("nginx:latest")[ORIGINAL].digest
    wanted = past.leaves(f"nginx{tag}@{digest}")
    assert f"docker.io/library/nginx@{digest}" in wanted
    with CriClient(shim.socket) as client:
        client.pull(f"nginx{tag}@{digest}")
        assert on_node(node_client) == wanted
        assert client.image_status(f"nginx{tag}@{digest}") is not None
        other = f"sha256:{'0' * 64}"
        with pytest.raises(CallError):
            client.pull(f"nginx{tag}@{other}")
        assert client.image_status(f"nginx{tag}@{other}") is None
        assert any(other in seen.path for seen in public.seen)


def test_the_clients_credentials_stay_at_home(
    api: str, shim: Shim, hub: Recorder, public: Recorder
) -> None:
    """What a client sends for docker.io does not reach the hub, whose own login does."""
    username, _, password = CLIENT_LOGIN.partition(":")
    with CriClient(shim.socket, api) as client:
        client.pull("nginx:latest", username=username, password=password)
    assert hub.credentials() == {basic(HUB_LOGIN)}
    assert {seen.by_runtime for seen in hub.seen} == {True, False}
    assert public.seen == []


def test_an_image_that_no_registry_has(
    api: str, shim: Shim, runtime: Containerd, hub: Recorder, public: Recorder
) -> None:
    """The original name and the client's login reach docker.io; containerd's words come first.

    After them stands what the hub said; status and the other trailers are containerd's own.
    """
    answers = []
    for socket in (runtime.socket, shim.socket):
        public.clear()
        with CriClient(socket, api) as client, pytest.raises(CallError) as caught:
            client.pull("team/nobody:1", username="me", password="secret")
        assert public.credentials() == {basic(CLIENT_LOGIN)}
        assert {seen.path for seen in public.seen} == {"/v2/team/nobody/manifests/1?ns=docker.io"}
        error = caught.value
        answers.append((error.code, error.details, error.trailers))
    (code, words, said), (our_code, our_words, we_said) = answers
    assert our_code is code is grpc.StatusCode.NOT_FOUND
    assert our_words == f"{words}; image-cri-shim: {hub.host}: absent"
    assert we_said == said
    assert basic(CLIENT_LOGIN) not in hub.credentials()


def test_the_socket_is_as_open_as_the_runtimes(runtime: Containerd, shim: Shim) -> None:
    """Owner, group and mode are those of containerd's socket."""
    theirs, ours = os.stat(runtime.socket), os.stat(shim.socket)
    assert (ours.st_uid, ours.st_gid) == (theirs.st_uid, theirs.st_gid)
    assert stat.S_IMODE(ours.st_mode) == stat.S_IMODE(theirs.st_mode) == 0o660


def test_no_secret_in_the_log(shim: Shim, crictl: Crictl) -> None:
    """One line for the decision, with both names and without a password."""
    assert crictl.pull("nginx:latest", credentials=CLIENT_LOGIN).status == 0
    assert crictl.pull("team/nobody:1", credentials=CLIENT_LOGIN).status != 0

    def lines(image: str) -> list[str]:
        return [line for line in shim.text().splitlines() if image in line and "PullImage" in line]

    wait_for("a line of the one", lambda: len(lines("nginx:latest")) > 0, 20)
    wait_for("a line of the other", lambda: len(lines("team/nobody:1")) > 0, 20)
    log = shim.text()
    assert len(lines("nginx:latest")) == 1, log
    for secret in ("hub:pass", "secret", basic(HUB_LOGIN), basic(CLIENT_LOGIN)):
        assert secret not in log
