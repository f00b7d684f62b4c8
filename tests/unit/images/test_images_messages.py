from __future__ import annotations

import pytest

from shimcore.config import Credentials, Registry
from shimcore.images.call import METHODS, Method, method_of
from shimcore.images.credentials import auth_for, is_empty
from shimcore.images.messages import IMAGES, MOUNTS, ImageRequest, UnreadableRequestError
from shimcore.pb import cri_pb2
from shimcore.reference import Mirror, parse_reference

UNKNOWN = b"\x8a\x7d\x05later"  # field 2001, of an API that is yet to come
SANDBOX = b"\x1a\x08\x0a\x06\x0a\x04name"  # sandbox_config = 3


def registry(
    credentials: Credentials | None, scheme: str = "https", host: str = "h:5000"
) -> Registry:
    return Registry(f"{scheme}://{host}", scheme, host, Mirror(host), 1, False, credentials, "auth")


def test_ten_paths_are_opened() -> None:
    """Five methods of two CRI versions."""
    assert len(METHODS) == 10
    assert method_of("/runtime.v1.RuntimeService/CreateContainer") is Method.CREATE
    assert method_of("/runtime.v1alpha2.ImageService/PullImage") is Method.PULL


def test_rewritten_pull_keeps_everything_but_name_and_credentials() -> None:
    """Annotations, handler, user's name, sandbox, and fields not known here."""
    spec = cri_pb2.ImageSpec(
        image="nginx",
        annotations={"a": "1", "b": "2"},
        user_specified_image="nginx",
        runtime_handler="kata",
    )
    message = cri_pb2.PullImageRequest(
        image=cri_pb2.ImageSpec.FromString(spec.SerializeToString() + UNKNOWN),
        auth=cri_pb2.AuthConfig.FromString(b"\x0a\x01u\x12\x06secret" + UNKNOWN),
    ).SerializeToString()
    request = ImageRequest(Method.PULL, message + SANDBOX + UNKNOWN)
    written = request.pulled_as("h/nginx:latest", cri_pb2.AuthConfig(username="r"))
    parsed = cri_pb2.PullImageRequest.FromString(written)
    assert parsed.image.image == "h/nginx:latest"
    assert dict(parsed.image.annotations) == {"a": "1", "b": "2"}
    assert parsed.image.user_specified_image == "nginx"
    assert parsed.image.runtime_handler == "kata"
    assert parsed.auth == cri_pb2.AuthConfig(username="r")
    assert SANDBOX in written
    assert written.count(UNKNOWN) == 2
    assert b"secret" not in written
    assert request.image == "nginx"


@pytest.mark.parametrize("method", [Method.STATUS, Method.REMOVE])
def test_other_name_in_a_question(method: Method) -> None:
    """Only the name changes, and the request can be written again."""
    message = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image="a")).SerializeToString()
    request = ImageRequest(method, message + UNKNOWN)
    assert request.renamed(["bb"]) == b"\x0a\x04\x0a\x02bb" + UNKNOWN
    assert request.renamed(["a"]) == message + UNKNOWN
    assert request.image == "a"


def test_an_image_volumes_name() -> None:
    """A container names its own image and those of its volumes; each may change apart."""
    mounts = [cri_pb2.Mount(image=cri_pb2.ImageSpec(image="data")), cri_pb2.Mount()]
    config = cri_pb2.ContainerConfig(image=cri_pb2.ImageSpec(image="app"), mounts=mounts)
    message = cri_pb2.CreateContainerRequest(config=config).SerializeToString()
    request = ImageRequest(Method.CREATE, message)
    assert request.images == ["app", "data"]
    changed = cri_pb2.CreateContainerRequest.FromString(request.renamed(["app", "h/data"]))
    assert changed.config.image.image == "app"
    assert [mount.image.image for mount in changed.config.mounts] == ["h/data", ""]
    assert request.images == ["app", "data"]


@pytest.mark.parametrize(
    ("image", "bound"), [("x:{}", IMAGES - 1), ("", MOUNTS)], ids=["images", "mounts"]
)
def test_a_container_that_names_too_much(image: str, bound: int) -> None:
    """It is not read: 4 MiB can name a hundred thousand images, which are 17 s of work."""
    config = cri_pb2.ContainerConfig(image=cri_pb2.ImageSpec(image="app"))
    for number in range(bound):
        config.mounts.add().image.image = image.format(number)
    message = cri_pb2.CreateContainerRequest(config=config)
    assert ImageRequest(Method.CREATE, message.SerializeToString()).image == "app"
    config.mounts.add().image.image = image.format("last")
    message = cri_pb2.CreateContainerRequest(config=config)
    with pytest.raises(UnreadableRequestError):
        ImageRequest(Method.CREATE, message.SerializeToString())


@pytest.mark.parametrize("method", list(Method))
def test_bytes_that_are_no_request(method: Method) -> None:
    """Raise one error of ours."""
    with pytest.raises(UnreadableRequestError):
        ImageRequest(method, b"\x0a\xff\xff")


@pytest.mark.parametrize("method", list(Method))
def test_empty_request_names_nothing(method: Method) -> None:
    """A request without an image is one, and its name is empty."""
    assert ImageRequest(method, b"").image == ""


def test_large_request() -> None:
    """15 MiB of a sandbox's annotations go along."""
    label = b"x" * (15 << 20)
    sandbox = b"\x12" + _varint(len(label)) + label  # hostname = 2
    message = pull_with(b"\x1a" + _varint(len(sandbox)) + sandbox)
    written = ImageRequest(Method.PULL, message).pulled_as("h/a:b", None)
    assert len(written) > 15 << 20


def pull_with(more: bytes) -> bytes:
    return cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image="a")).SerializeToString() + more


def _varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


@pytest.mark.parametrize(
    ("scheme", "image", "server"),
    [
        ("https", "h:5000/a:b", "https://h:5000"),
        ("http", "h:5000/a:b", "http://h:5000"),
        ("https", "nginx", "https://registry-1.docker.io"),
        ("https", "registry-1.docker.io/library/nginx", "https://registry-1.docker.io"),
        ("https", "[::1]:5000/a:b", "https://[::1]:5000"),
    ],
)
def test_server_address_has_the_host_that_containerd_asks(
    scheme: str, image: str, server: str
) -> None:
    """A whole URL of that host; for Docker Hub that is not its name."""
    auth = auth_for(registry(Credentials("u", "p"), scheme), parse_reference(image))
    assert auth == cri_pb2.AuthConfig(username="u", password="p", server_address=server)


def test_identity_token_goes_without_a_user_name() -> None:
    """containerd would take the name and an empty password instead."""
    auth = auth_for(registry(Credentials("<token>", "", "idt")), parse_reference("h:5000/a:b"))
    assert auth == cri_pb2.AuthConfig(identity_token="idt", server_address="https://h:5000")


@pytest.mark.parametrize("credentials", [None, Credentials("", "")])
def test_no_credentials(credentials: Credentials | None) -> None:
    """Nothing is sent, so that the runtime may use its own."""
    assert auth_for(registry(credentials), parse_reference("h:5000/a:b")) is None


def test_empty_credentials() -> None:
    """A server address is no login."""
    assert is_empty(cri_pb2.AuthConfig(server_address="https://h"))
    assert not is_empty(cri_pb2.AuthConfig(password="x"))
