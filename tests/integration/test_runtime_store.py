"""containerd's image store through the client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shimcore.pb import cri_pb2
from shimcore.pb.containerd_pb2 import Descriptor
from shimcore.runtime.client import RuntimeClient
from shimcore.runtime.errors import RuntimeCallError, StatusCode
from shimcore.runtime.values import ImageRecord
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_rpc import StatusError

T_S = 15.0

HUB_NGINX = "sealos.hub:5000/library/nginx:latest"
NGINX = "docker.io/library/nginx:latest"
RECORD = ImageRecord(
    NGINX,
    {"io.cri-containerd.image": "managed"},
    Descriptor(media_type="type", digest="sha256:00", size=3, annotations={"a": "b"}),
)


async def test_a_record_comes_back_as_it_went(client: RuntimeClient) -> None:
    """Name, labels and target survive create and get; absent names are None."""
    assert await client.store.get(NGINX) is None
    assert await client.store.create(RECORD) is True
    assert await client.store.get(NGINX) == RECORD


async def test_a_name_that_is_there_is_left_alone(client: RuntimeClient) -> None:
    """Creating it again says False and changes nothing."""
    await client.store.create(RECORD)
    other = replace(RECORD, labels={})
    assert await client.store.create(other) is False
    assert await client.store.get(NGINX) == RECORD


async def test_update_changes_labels_and_target(client: RuntimeClient) -> None:
    """A name can be made to point elsewhere; one that is not there cannot."""
    await client.store.create(RECORD)
    moved = ImageRecord(
        NGINX, {"x": "y"}, Descriptor(media_type="type", digest="sha256:11", size=4)
    )
    await client.store.update(moved)
    assert await client.store.get(NGINX) == moved
    with pytest.raises(RuntimeCallError) as caught:
        await client.store.update(replace(moved, name="other"))
    assert caught.value.code == StatusCode.NOT_FOUND


async def test_delete_says_whether_it_was_there(client: RuntimeClient) -> None:
    """True once, then False."""
    await client.store.create(RECORD)
    assert await client.store.delete(NGINX) is True
    assert await client.store.delete(NGINX) is False


async def test_a_name_given_to_a_pulled_image_is_seen_by_cri(client: RuntimeClient) -> None:
    """What the shim does after a pull: the original name, on the record that the pull made."""
    spec = cri_pb2.ImageSpec(image=HUB_NGINX)
    request = cri_pb2.PullImageRequest(image=spec).SerializeToString()
    answer = await client.pull_image(request, timeout_s=T_S)
    image_id = cri_pb2.PullImageResponse.FromString(answer).image_ref
    pulled = await client.store.get(HUB_NGINX)
    assert pulled is not None
    await client.store.create(replace(pulled, name=NGINX))
    found = await client.image_status("nginx", timeout_s=T_S)
    assert found is not None
    assert found.id == image_id
    assert set(found.repo_tags) == {NGINX, HUB_NGINX}


async def test_every_call_names_kubernetes_namespace(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """The images that CRI sees are those of the namespace k8s.io."""
    await client.store.get(NGINX)
    for call in runtime.calls:
        assert dict(call.metadata)["containerd-namespace"] == "k8s.io"


async def test_whether_there_is_a_store_is_asked_once(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """The answer holds as long as the connection."""
    assert await client.store.supported() is True
    assert await client.store.supported() is True
    assert len(runtime.calls) == 1
    assert client.store.seen


async def test_a_runtime_without_a_store_is_asked_once_too(tmp_path: Path) -> None:
    """CRI-O answers UNIMPLEMENTED: no store."""
    path = str(tmp_path / "r.sock")
    async with ScriptedRuntime(path, image_store=False) as runtime, RuntimeClient(path) as client:
        assert await client.store.supported() is False
        assert await client.store.supported() is False
        assert len(runtime.calls) == 1
        assert not client.store.seen


async def test_another_failure_teaches_nothing(
    runtime: ScriptedRuntime, client: RuntimeClient
) -> None:
    """Only UNIMPLEMENTED means that there is no store."""

    async def refuse(request: bytes) -> bytes:
        raise StatusError(StatusCode.INTERNAL, "bolt: timeout")

    runtime.overrides["Images/Get"] = refuse
    with pytest.raises(RuntimeCallError, match="bolt"):
        await client.store.supported()
    runtime.overrides.clear()
    assert await client.store.supported() is True
