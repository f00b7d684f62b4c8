"""The stand-in runtime as its clients see it: foreign calls, records, pulls over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from shimcore.pb import cri_pb2
from shimcore.runtime.errors import StatusCode
from tests.support.registry_puller import RegistryPuller
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_rpc import StatusError

V1 = "/runtime.v1."


@pytest.fixture
async def channel(runtime: ScriptedRuntime) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel("unix:" + runtime.socket_path) as channel:
        yield channel


async def unary(channel: grpc.aio.Channel, path: str, request: bytes) -> bytes:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return await method(request, timeout=10)


def spec(image: str) -> cri_pb2.ImageSpec:
    return cri_pb2.ImageSpec(image=image)


async def pull(channel: grpc.aio.Channel, image: str) -> str:
    request = cri_pb2.PullImageRequest(image=spec(image)).SerializeToString()
    answer = await unary(channel, V1 + "ImageService/PullImage", request)
    return cri_pb2.PullImageResponse.FromString(answer).image_ref


async def test_any_echo_gives_the_request_back(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """With metadata before and after, and a record of what came."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/any.Thing/Echo")
    call = method(b"\x00\xff", metadata=(("x-trace", "1"), ("x-raw-bin", b"\x01")))
    assert await call == b"\x00\xff"
    assert dict(await call.initial_metadata())["x-stand-in-bin"] == b"\x00\xff"
    assert dict(await call.trailing_metadata())["x-trailer-bin"] == b"\xff\x00"
    recorded = runtime.calls[0]
    assert (recorded.method, recorded.request) == ("/any.Thing/Echo", b"\x00\xff")
    assert dict(recorded.metadata)["x-trace"] == "1"
    assert dict(recorded.metadata)["x-raw-bin"] == b"\x01"


async def test_any_stream_sends_as_many_as_asked(channel: grpc.aio.Channel) -> None:
    """Numbered messages, with metadata before and after."""
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/x.Y/Stream")
    assert [each async for each in method(b"m")] == [b"0:m", b"1:m", b"2:m"]
    call = method(b"", metadata=(("count", "5"),))
    assert len([each async for each in call]) == 5
    assert dict(await call.trailing_metadata())["x-stand-in-trailer"] == "bye"


async def test_any_chat_answers_each_message(channel: grpc.aio.Channel) -> None:
    """Both directions stream."""
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/x.Y/Chat")
    call = method()
    for message in (b"a", b"b"):
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_what_it_does_not_know_is_unimplemented(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """And on the record all the same."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, V1 + "RuntimeService/RunPodSandbox", b"pod")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [call.request for call in runtime.called("RunPodSandbox")] == [b"pod"]


async def test_a_record_does_not_show_the_request(runtime: ScriptedRuntime) -> None:
    """Requests carry passwords, so neither they nor the metadata are in the repr."""
    async with grpc.aio.insecure_channel("unix:" + runtime.socket_path) as channel:
        await unary(channel, "/x/Echo", b"hunter2")
    assert "hunter2" not in repr(runtime.calls)


async def test_images_are_listed_streamed_and_counted(channel: grpc.aio.Channel) -> None:
    """ListImages, StreamImages and ImageFsInfo see what was pulled."""
    for image in ("nginx", "redis"):
        await pull(channel, image)
    answer = await unary(channel, V1 + "ImageService/ListImages", b"")
    assert len(cri_pb2.ListImagesResponse.FromString(answer).images) == 2
    only_redis = cri_pb2.ListImagesRequest(filter=cri_pb2.ImageFilter(image=spec("redis")))
    answer = await unary(channel, V1 + "ImageService/ListImages", only_redis.SerializeToString())
    (redis,) = cri_pb2.ListImagesResponse.FromString(answer).images
    assert redis.repo_tags == ["docker.io/library/redis:latest"]
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
        V1 + "ImageService/StreamImages"
    )
    assert len([each async for each in stream(b"")]) == 2
    answer = await unary(channel, V1 + "ImageService/ImageFsInfo", b"")
    usage = cri_pb2.ImageFsInfoResponse.FromString(answer).image_filesystems[0]
    assert usage.used_bytes.value > 0


async def test_a_container_needs_its_image(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """CreateContainer is recorded with its image, or refused without."""
    config = cri_pb2.ContainerConfig(image=spec("nginx"))
    request = cri_pb2.CreateContainerRequest(pod_sandbox_id="p", config=config).SerializeToString()
    path = V1 + "RuntimeService/CreateContainer"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, path, request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await pull(channel, "nginx")
    made = cri_pb2.CreateContainerResponse.FromString(await unary(channel, path, request))
    assert runtime.state.containers[made.container_id].config.image.image == "nginx"


async def test_both_versions_share_the_images(channel: grpc.aio.Channel) -> None:
    """What was pulled with v1 is there for v1alpha2."""
    await pull(channel, "nginx")
    request = cri_pb2.ImageStatusRequest(image=spec("nginx"), verbose=True).SerializeToString()
    answer = await unary(channel, "/runtime.v1alpha2.ImageService/ImageStatus", request)
    status = cri_pb2.ImageStatusResponse.FromString(answer)
    assert status.HasField("image")
    assert "docker.io/library/nginx:latest" in status.info["info"]


async def test_an_override_answers_for_a_method(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """With any status, details and trailers."""

    async def refuse(request: bytes) -> bytes:
        raise StatusError(StatusCode.RESOURCE_EXHAUSTED, "full: 99 %", (("x-why-bin", b"\x00"),))

    runtime.overrides["ImageService/ImageFsInfo"] = refuse
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, V1 + "ImageService/ImageFsInfo", b"")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "full: 99 %"
    assert dict(caught.value.trailing_metadata())["x-why-bin"] == b"\x00"


async def test_bytes_that_are_no_request_are_refused(channel: grpc.aio.Channel) -> None:
    """As a gRPC server does: INTERNAL."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, V1 + "ImageService/PullImage", b"\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_latency_holds_answers_back(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """Every answer waits that long."""
    runtime.latency_s = 0.2
    loop = asyncio.get_running_loop()
    started = loop.time()
    await unary(channel, "/x/Echo", b"")
    assert loop.time() - started >= 0.2


HUB = "sealos.hub:5000"
NGINX = f"{HUB}/library/nginx:latest"


def hub_auth(password: str = "passw0rd", server_address: str = "") -> cri_pb2.AuthConfig:
    return cri_pb2.AuthConfig(username="admin", password=password, server_address=server_address)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_a_pull_fetches_manifest_config_and_layers(scheme: str) -> None:
    """Over HTTP, from where the host is said to be, with the credentials of the request."""
    hub = ScriptedRegistry(
        users={"admin": "passw0rd"}, auth="basic" if scheme == "basic" else "bearer"
    )
    async with hub:
        digest = hub.add_image("library/nginx", "latest")
        pull_from = RegistryPuller({HUB: hub.address})
        pulled = await pull_from(NGINX, hub_auth(server_address=f"http://{HUB}"))
        assert pulled.digest == digest
        assert pulled.size > 0
        by_digest = await pull_from(f"{HUB}/library/nginx@{digest}", hub_auth())
        assert by_digest.id == pulled.id
        blobs = {request.path for request in hub.requests if "/blobs/" in request.path}
        assert len(blobs) == 2


@pytest.mark.parametrize(
    "auth",
    [
        None,
        hub_auth("wrong"),
        hub_auth(server_address="https://index.docker.io/v1/"),
        hub_auth(server_address=HUB),
    ],
)
async def test_a_pull_without_the_right_credentials_fails(auth: cri_pb2.AuthConfig | None) -> None:
    """None, wrong ones, or ones for another host: 401 from the registry."""
    async with ScriptedRegistry(users={"admin": "passw0rd"}, auth="basic") as hub:
        hub.add_image("library/nginx", "latest")
        with pytest.raises(StatusError, match="401") as caught:
            await RegistryPuller({HUB: hub.address})(NGINX, auth)
        assert caught.value.code is StatusCode.UNKNOWN
        assert "passw0rd" not in str(caught.value)


async def test_an_absent_image_is_not_found() -> None:
    """NOT_FOUND, with the name."""
    async with ScriptedRegistry() as hub:
        with pytest.raises(StatusError, match="nginx") as caught:
            await RegistryPuller({HUB: hub.address})(NGINX, None)
        assert caught.value.code is StatusCode.NOT_FOUND


async def test_a_registry_that_is_away_is_said_so() -> None:
    """A refused connection is an error of the pull, naming the host."""
    async with ScriptedRegistry() as hub:
        address = hub.address
    with pytest.raises(StatusError, match=r"sealos\.hub:5000: ConnectError"):
        await RegistryPuller({HUB: address})(NGINX, None)


async def test_a_loopback_registry_is_asked_over_http(
    runtime: ScriptedRuntime, channel: grpc.aio.Channel
) -> None:
    """And what was pulled has the names that containerd would give it."""
    async with ScriptedRegistry() as hub:
        digest = hub.add_image("app", "v1")
        runtime.puller = RegistryPuller()
        image_id = await pull(channel, f"{hub.host}/app:v1")
        assert set(runtime.table.records) == {
            f"{hub.host}/app:v1",
            f"{hub.host}/app@{digest}",
            image_id,
        }
