"""What the shim does not know in a message stays in it."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from shimcore.pb import containerd_pb2, cri_pb2

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, bytes]  # number, wire type, the payload as on the wire


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def field(number: int, kind: int, payload: bytes) -> bytes:
    length = varint(len(payload)) if kind == BYTES else b""
    return varint(number << 3 | kind) + length + payload


def fields(data: bytes) -> list[Field]:
    """Every field of a message, by number; those of one number in the order of the wire."""
    found: list[Field] = []
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        start = at
        if tag & 7 == VARINT:
            _, at = read_varint(data, at)
        elif tag & 7 == BYTES:
            length, start = read_varint(data, at)
            at = start + length
        else:
            at += 8 if tag & 7 == FIXED64 else 4
        found.append((tag >> 3, tag & 7, data[start:at]))
    return sorted(found, key=lambda each: each[0])


def encoded(unknown: list[Field]) -> bytes:
    return b"".join(field(*each) for each in unknown)


payloads = st.one_of(
    st.tuples(st.just(VARINT), st.integers(0, 2**64 - 1).map(varint)),
    st.tuples(st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(BYTES), st.binary(max_size=40)),
)
NEW_NUMBERS = [16, 17, 21, 99, 1000, 18999, 20000, 2**29 - 1]
unknowns = st.lists(
    st.tuples(st.sampled_from(NEW_NUMBERS), payloads).map(lambda each: (each[0], *each[1])),
    max_size=6,
)

SANDBOX = field(1, BYTES, field(1, BYTES, b"pod")) + field(3, BYTES, b"/var/log")


@given(unknowns, unknowns, unknowns)
def test_a_rewritten_pull_keeps_every_unknown_field(
    in_spec: list[Field], in_auth: list[Field], in_request: list[Field]
) -> None:
    """Only the image's name differs between a PullImageRequest and its rewritten form."""

    def wire(name: bytes) -> bytes:
        spec = (
            field(1, BYTES, name)
            + field(2, BYTES, field(1, BYTES, b"key") + field(2, BYTES, b"value"))
            + field(18, BYTES, b"nginx:latest")
            + field(19, BYTES, b"gvisor")
            + field(20, BYTES, b"sha256:0123")
            + encoded(in_spec)
        )
        auth = field(1, BYTES, b"user") + field(6, BYTES, b"token") + encoded(in_auth)
        return (
            field(1, BYTES, spec)
            + field(2, BYTES, auth)
            + field(3, BYTES, SANDBOX)
            + encoded(in_request)
        )

    request = cri_pb2.PullImageRequest.FromString(wire(b"nginx:latest"))
    request.image.image = "sealos.hub:5000/library/nginx:latest"

    assert deep(request.SerializeToString()) == deep(wire(b"sealos.hub:5000/library/nginx:latest"))


def deep(request: bytes) -> list[object]:
    """The fields of a PullImageRequest, those of its image and credentials taken apart."""
    return [
        (number, kind, fields(payload) if number in {1, 2} else payload)
        for number, kind, payload in fields(request)
    ]


@given(unknowns, unknowns)
def test_a_rewritten_container_keeps_everything_else(
    in_config: list[Field], in_request: list[Field]
) -> None:
    """Metadata, commands, mounts and what is yet to be invented go through CreateContainer."""

    def wire(name: bytes) -> tuple[bytes, bytes, bytes]:
        config = (
            field(1, BYTES, field(1, BYTES, b"web") + field(2, VARINT, varint(3)))
            + field(2, BYTES, field(1, BYTES, name) + field(18, BYTES, b"nginx"))
            + field(3, BYTES, b"sleep")
            + field(3, BYTES, b"infinity")
            + field(15, BYTES, b"linux")
            + encoded(in_config)
        )
        rest = field(1, BYTES, b"pod-id") + field(3, BYTES, SANDBOX) + encoded(in_request)
        return config, rest, field(2, BYTES, config) + rest

    request = cri_pb2.CreateContainerRequest.FromString(wire(b"nginx")[2])
    request.config.image.image = "hub/nginx"
    config, rest, _ = wire(b"hub/nginx")

    got = fields(request.SerializeToString())
    assert [each for each in got if each[0] != 2] == fields(rest)
    assert [fields(each[2]) for each in got if each[0] == 2] == [fields(config)]


def test_numbers_18_to_20_survive_where_they_are_unknown() -> None:
    """Fields 18, 19 and 20 in messages that do not list them are kept like any other."""
    late = [(number, BYTES, b"late") for number in (18, 19, 20)]
    kinds: list[type[Message]] = [
        cri_pb2.AuthConfig,
        cri_pb2.PullImageRequest,
        cri_pb2.ImageStatusRequest,
        cri_pb2.RemoveImageRequest,
        cri_pb2.ContainerConfig,
        cri_pb2.CreateContainerRequest,
        containerd_pb2.Image,
    ]
    for kind in kinds:
        assert fields(kind.FromString(encoded(late)).SerializeToString()) == late


def test_the_runtime_class_of_an_image_keeps_its_number() -> None:
    """ImageSpec's fields 18, 19 and 20 have the names that cri-api gives them."""
    spec = cri_pb2.ImageSpec.FromString(
        encoded([(18, BYTES, b"nginx"), (19, BYTES, b"gvisor"), (20, BYTES, b"ref")])
    )
    assert (spec.user_specified_image, spec.runtime_handler, spec.image_ref) == (
        "nginx",
        "gvisor",
        "ref",
    )


def test_a_descriptor_s_annotations_are_field_5() -> None:
    """containerd's Descriptor leaves field 4 out."""
    target = containerd_pb2.Descriptor(size=7, annotations={"a": "b"})
    assert [each[0] for each in fields(target.SerializeToString())] == [3, 5]
