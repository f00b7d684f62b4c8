"""The runtime client and the stand-in runtime against each other, over a real socket."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from shimcore import unixsocket
from shimcore.errors import RuntimeUnavailableError
from shimcore.pb import cri_pb2
from shimcore.pb.containerd_pb2 import Descriptor
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.errors import ForbiddenRuntimeError, RuntimeCallError, StatusCode
from shimcore.runtime.values import ImageRecord, RuntimeVersion
from tests.support.cri import pull_request, remove_image
from tests.support.polling import until
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_images import PulledImage
from tests.support.standin_rpc import StatusError

T_S = 15.0

HUB_NGINX = "sealos.hub:5000/library/nginx:latest"


async def pulling(runtime: ScriptedRuntime) -> None:
    """Until the runtime is asked for a pull."""
    await until(lambda: runtime.called("PullImage"), "the runtime is asked for no pull")


async def test_it_tells_version_and_readiness(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Version and RuntimeReady come from the runtime, with its reason when it is not."""
    assert await client.version(T_S) == RuntimeVersion("stand-in", "1.0.0", "v1")
    assert await client.ready(T_S) == (True, "")
    runtime.state.ready = False
    assert await client.ready(T_S) == (False, "StandInNotReady: told not to be ready")


async def test_a_pulled_image_is_there_and_can_be_removed(client: RuntimeClient) -> None:
    """Pull, status by several names, remove."""
    assert await client.image_status(HUB_NGINX, timeout_s=T_S) is None
    answer = await client.pull_image(pull_request(HUB_NGINX), timeout_s=T_S)
    reference = cri_pb2.PullImageResponse.FromString(answer).image_ref
    found = await client.image_status(HUB_NGINX, timeout_s=T_S)
    assert found is not None
    assert found.id == reference
    assert found.repo_tags == (HUB_NGINX,)
    assert len(found.repo_digests) == 1
    assert await client.image_status(reference, timeout_s=T_S) == found
    await remove_image(client.socket, HUB_NGINX)
    assert await client.image_status(reference, timeout_s=T_S) is None
    await remove_image(client.socket, HUB_NGINX)


async def test_a_pull_request_goes_as_it_is(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Not one byte of a PullImageRequest is changed, known or not."""
    request = pull_request("nginx") + bytes.fromhex("a206026869")  # field 100: "hi"
    await client.pull_image(request, timeout_s=T_S)
    assert [call.request for call in runtime.called("PullImage")] == [request]


async def test_a_status_is_passed_on_with_code_and_text(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Whatever the runtime says no with, the caller sees."""

    async def refuse(image: str, auth: object) -> PulledImage:
        raise StatusError(StatusCode.UNKNOWN, f"failed to pull {image}: 401 Ünauthorized")

    runtime.puller = refuse
    with pytest.raises(RuntimeCallError) as caught:
        await client.pull_image(pull_request("nginx"), timeout_s=T_S)
    assert caught.value.code == StatusCode.UNKNOWN
    assert caught.value.details == "failed to pull nginx: 401 Ünauthorized"


async def test_unavailable_from_the_runtime_is_not_a_runtime_that_is_away(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """A runtime says UNAVAILABLE when a registry is; it has answered all the same."""

    async def refuse(image: str, auth: object) -> PulledImage:
        raise StatusError(StatusCode.UNAVAILABLE, "registry: 503")

    runtime.puller = refuse
    with pytest.raises(RuntimeCallError, match="registry: 503") as caught:
        await client.pull_image(pull_request("nginx"), timeout_s=T_S)
    assert caught.value.code == StatusCode.UNAVAILABLE


async def test_not_found_for_a_status_means_absent(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Some runtimes answer ImageStatus with NOT_FOUND instead of an empty message."""

    async def not_found(request: bytes) -> bytes:
        raise StatusError(StatusCode.NOT_FOUND, "no such image")

    runtime.overrides["ImageService/ImageStatus"] = not_found
    assert await client.image_status("nginx", timeout_s=T_S) is None


async def test_an_answer_that_is_no_message_is_an_error(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Bytes that do not parse are INTERNAL, not an exception of protobuf's."""

    async def broken(request: bytes) -> bytes:
        return b"\xff\xff\xff"

    runtime.overrides["ImageService/ImageStatus"] = broken
    with pytest.raises(RuntimeCallError) as caught:
        await client.image_status("nginx", timeout_s=T_S)
    assert caught.value.code == StatusCode.INTERNAL


async def test_large_messages_fit(runtime: ScriptedRuntime, client: RuntimeClient) -> None:
    """15 MiB go both ways."""
    record = ImageRecord(
        HUB_NGINX, {"x": "y" * (15 << 20)}, Descriptor(media_type="t", digest="sha256:0", size=1)
    )
    assert await client.store.create(record)
    assert await client.store.get(HUB_NGINX) == record


async def test_a_long_error_text_fits(runtime: ScriptedRuntime, client: RuntimeClient) -> None:
    """A runtime's error of half a MiB arrives, and what stands at its two ends is kept."""
    text = f"failed to pull: {'x' * (512 << 10)} 403 Forbidden"

    async def refuse(image: str, auth: object) -> PulledImage:
        raise StatusError(StatusCode.UNKNOWN, text)

    runtime.puller = refuse
    with pytest.raises(RuntimeCallError) as caught:
        await client.pull_image(pull_request("nginx"), timeout_s=T_S)
    assert caught.value.details == "failed to pull: … 403 Forbidden"


async def hang(request: bytes) -> bytes:
    await asyncio.Event().wait()
    return request


async def test_cancelling_the_task_cancels_the_call(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """The runtime sees that nobody waits any more."""
    runtime.overrides["ImageService/PullImage"] = hang
    pull = asyncio.create_task(client.pull_image(pull_request("nginx"), timeout_s=None))
    await pulling(runtime)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    cancelled = ["/runtime.v1.ImageService/PullImage"]
    await until(lambda: runtime.cancelled == cancelled, lambda: runtime.cancelled)


async def test_a_call_ends_at_its_time_limit(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """DEADLINE_EXCEEDED here, and a cancelled call there."""
    runtime.overrides["ImageService/PullImage"] = hang
    with pytest.raises(RuntimeCallError) as caught:
        await client.pull_image(pull_request("nginx"), timeout_s=0.2)
    assert caught.value.code == StatusCode.DEADLINE_EXCEEDED
    await until(lambda: len(runtime.cancelled) == 1, lambda: runtime.cancelled)


async def test_an_asyncio_timeout_stays_one(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """A caller's own asyncio.timeout is seen as such."""
    runtime.overrides["ImageService/PullImage"] = hang
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.pull_image(pull_request("nginx"), timeout_s=None)


async def test_closing_ends_calls_with_an_error_of_ours(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """A task that nobody cancelled does not see CancelledError when the client closes."""
    runtime.overrides["ImageService/PullImage"] = hang
    pull = asyncio.create_task(client.pull_image(pull_request("nginx"), timeout_s=None))
    await pulling(runtime)
    await client.aclose()
    with pytest.raises(RuntimeUnavailableError):
        await pull
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        await client.version(T_S)


async def test_no_socket_says_which_and_what_to_do(tmp_path: Path) -> None:
    """Without a runtime the error names the socket and the key to set, at once."""
    path = str(tmp_path / "none.sock")
    async with RuntimeClient("unix://" + path) as client:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(RuntimeUnavailableError) as caught:
                await client.version(T_S)
            assert path in str(caught.value)
            assert "`cri:`" in str(caught.value)
        assert time.monotonic() - started < 1


async def test_a_socket_of_another_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime that is down: the error says what to do."""
    path = str(tmp_path / "none.sock")

    def connected(path: str) -> socket.socket:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(unixsocket, "connected", connected)
    async with RuntimeClient(path) as client:
        with pytest.raises(ForbiddenRuntimeError) as caught:
            await client.version(T_S)
    assert str(caught.value) == f"{path}: permission denied; run this as root"


async def test_a_socket_that_never_answers_is_an_unavailable_runtime(tmp_path: Path) -> None:
    """Somebody listens and says nothing: the deadline passes without a connection."""

    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        async with RuntimeClient(path) as client:
            with pytest.raises(RuntimeUnavailableError):
                await client.version(0.3)


async def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    """Blanks and per cent signs in a socket's path are taken as they are."""
    path = str(tmp_path / "a b%20.sock")
    async with ScriptedRuntime(path), RuntimeClient(path) as client:
        assert (await client.version(T_S)).name == "stand-in"


async def test_an_old_runtime_is_spoken_to_in_its_version(tmp_path: Path) -> None:
    """v1 is tried once; from then on v1alpha2 is used."""
    path = str(tmp_path / "r.sock")
    async with ScriptedRuntime(path, versions=["runtime.v1alpha2"]) as runtime:
        async with RuntimeClient(path) as client:
            assert (await client.version(T_S)).api_version == "v1alpha2"
            assert await client.image_status("nginx", timeout_s=T_S) is None
            assert await client.ready(T_S) == (True, "")
        assert [call.method for call in runtime.calls] == [
            "/runtime.v1.RuntimeService/Version",
            "/runtime.v1alpha2.RuntimeService/Version",
            "/runtime.v1alpha2.ImageService/ImageStatus",
            "/runtime.v1alpha2.RuntimeService/Status",
        ]


async def test_a_failing_answer_in_the_old_version_teaches_it_too(tmp_path: Path) -> None:
    """Any answer but UNIMPLEMENTED shows that the version is there."""

    async def refuse(image: str, auth: object) -> PulledImage:
        raise StatusError(StatusCode.UNKNOWN, "no")

    path = str(tmp_path / "r.sock")
    async with (
        ScriptedRuntime(path, versions=["runtime.v1alpha2"], puller=refuse) as runtime,
        RuntimeClient(path) as client,
    ):
        for _ in range(2):
            with pytest.raises(RuntimeCallError, match="UNKNOWN: no"):
                await client.pull_image(pull_request("nginx"), timeout_s=T_S)
        assert len(runtime.calls) == 3


async def test_a_method_that_neither_version_has_is_unimplemented(tmp_path: Path) -> None:
    """The first refusal is reported, and nothing is learned from it."""
    path = str(tmp_path / "r.sock")
    async with ScriptedRuntime(path, versions=[]), RuntimeClient(path) as client:
        with pytest.raises(RuntimeCallError, match=r"runtime\.v1\.") as caught:
            await client.version(T_S)
        assert caught.value.code == StatusCode.UNIMPLEMENTED
