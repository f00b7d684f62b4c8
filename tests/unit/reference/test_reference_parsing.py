"""Grammar and normalisation, after the cases that distribution/reference itself pins."""

from __future__ import annotations

import pytest

from shimcore.errors import ReferenceSyntaxError
from shimcore.reference import ImageID, Reference, parse, parse_reference, valid_domain, valid_path

HEX64 = "dbcc1c35ac38df41fd2f5e4130b32ffdb93ebae8b3dbe638c23575912276fc9c"
SHA256 = "sha256:" + "f" * 64
SHA512 = "sha512:" + "f" * 128


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference("docker.io", "library/nginx", "latest", None)),
        ("nginx:1.25", Reference("docker.io", "library/nginx", "1.25", None)),
        ("lowercase:Uppercase", Reference("docker.io", "library/lowercase", "Uppercase", None)),
        ("test_com", Reference("docker.io", "library/test_com", "latest", None)),
        ("test_com/foo", Reference("docker.io", "test_com/foo", "latest", None)),
        ("test.com:tag", Reference("docker.io", "library/test.com", "tag", None)),
        ("test.com:5000", Reference("docker.io", "library/test.com", "5000", None)),
        ("192.168.1.1", Reference("docker.io", "library/192.168.1.1", "latest", None)),
        ("192.168.1.1:5000", Reference("docker.io", "library/192.168.1.1", "5000", None)),
        ("192.168.1.1:5000/repo:5050", Reference("192.168.1.1:5000", "repo", "5050", None)),
        ("test.com/repo:tag", Reference("test.com", "repo", "tag", None)),
        ("test:5000/repo", Reference("test:5000", "repo", "latest", None)),
        (f"test:5000/repo@{SHA256}", Reference("test:5000", "repo", None, SHA256)),
        (f"test:5000/repo:tag@{SHA256}", Reference("test:5000", "repo", "tag", SHA256)),
        (f"nginx@{SHA512}", Reference("docker.io", "library/nginx", None, SHA512)),
        ("foo/foo_bar.com:8080", Reference("docker.io", "foo/foo_bar.com", "8080", None)),
        (
            "sub-dom1.foo.com/bar/baz/quux",
            Reference("sub-dom1.foo.com", "bar/baz/quux", "latest", None),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            Reference("xn--n3h.com", "myimage", "xn--n3h.com", None),
        ),
        ("localhost/x", Reference("localhost", "x", "latest", None)),
        ("localhost:5000/x", Reference("localhost:5000", "x", "latest", None)),
        ("[::1]:5000/x", Reference("[::1]:5000", "x", "latest", None)),
        ("[2001:db8::1]/repo:tag", Reference("[2001:db8::1]", "repo", "tag", None)),
        (f"[2001:db8::]:5000/r:t@{SHA256}", Reference("[2001:db8::]:5000", "r", "t", SHA256)),
        ("docker.io/nginx", Reference("docker.io", "library/nginx", "latest", None)),
        ("index.docker.io/nginx", Reference("docker.io", "library/nginx", "latest", None)),
        ("index.docker.io/org/app", Reference("docker.io", "org/app", "latest", None)),
        ("docker.io/library/foo/bar", Reference("docker.io", "library/foo/bar", "latest", None)),
        ("Docker/docker", Reference("Docker", "docker", "latest", None)),
        ("docker---rules/docker", Reference("docker.io", "docker---rules/docker", "latest", None)),
        ("dock__er/docker", Reference("docker.io", "dock__er/docker", "latest", None)),
        (HEX64[:63], Reference("docker.io", f"library/{HEX64[:63]}", "latest", None)),
        (f"docker.io/{HEX64}", Reference("docker.io", f"library/{HEX64}", "latest", None)),
        ("a/" * 127 + "a", Reference("docker.io", "a/" * 127 + "a", "latest", None)),
        ("nginx:" + "t" * 128, Reference("docker.io", "library/nginx", "t" * 128, None)),
    ],
)
def test_accepts(text: str, expected: Reference) -> None:
    """A legal name has one normal form; :latest only when neither tag nor digest is there."""
    assert parse(text) == expected
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "empty"),
        (":justtag", 0, "empty"),
        (f"@{SHA256}", 0, "empty"),
        ("Uppercase:tag", 0, "must be lowercase"),
        ("docker/Docker", 7, "must be lowercase"),
        ("test:5000/Uppercase/lowercase:tag", 10, "must be lowercase"),
        ("docker.io/docker/Docker", 17, "must be lowercase"),
        ("-docker/docker", 0, "starts with"),
        ("docker-/docker", 6, "end with a separator"),
        ("docker/", 7, "empty"),
        ("docker///docker", 7, "empty"),
        ("dock..er/docker", 5, "starts with|domain|host"),
        ("org/dock..er", 9, "separators stand alone"),
        ("org/dock_.er", 9, "separators stand alone"),
        ("____/____", 0, "starts with"),
        ("aa/asdf$$^/aa", 7, "cannot have this character"),
        ("nginx ", 5, "cannot have this character"),
        ("nginx\n", 5, "cannot have this character"),
        ("nginx:lat\n", 9, "tag"),
        ("nginx:", 6, "tag is empty"),
        ("nginx:-x", 6, "tag"),
        ("nginx:a:b", 7, "tag"),
        ("nginx:" + "t" * 129, 134, "longer than 128"),
        ("nginx@", 6, "digest"),
        ("nginx@sha256", 6, "digest"),
        ("nginx@md5:" + "f" * 32, 6, "digest"),
        ("nginx@sha256:" + "f" * 34, 47, "64 hex digits"),
        ("nginx@sha256:" + "F" * 64, 13, "lower-case hex"),
        ("nginx@sha256:" + "f" * 65, 77, "64 hex digits"),
        ("https://github.com/docker/docker", 6, "port is missing"),
        ("host:50a0/x", 7, "digits only"),
        ("[::1]", 0, "cannot have this character"),
        ("[::1]:5000", 0, "cannot have this character"),
        ("[fe80::1%eth0]:5000/x", 8, "IPv6"),
        ("[2001:db8::192.0.2.33]:5000/x", 14, "IPv6"),
        ("fc00::1:5000/debian", 5, "port"),
        ("-docker.io/x", 0, "host"),
        ("docker-.io/x", 6, "dash"),
        ("foo_bar.com/x", 3, "host"),
        ("a." + "/x", 2, "host"),
        ("a/" * 128 + "a", 255, "longer than 255"),
        ("a" * 248, 247, "longer than 255"),  # with the `library/` that is not written
        ("h." * 130 + "x/y", 259, "longer than 259"),
        ("nginx\u00e9", 5, "cannot have this character"),
        ("\u0661/x", 0, "cannot have this character"),
    ],
)
def test_refuses_at_the_first_wrong_character(text: str, position: int, reason: str) -> None:
    """A refusal says what is wrong, and the offset where it goes wrong."""
    with pytest.raises(ReferenceSyntaxError, match=reason) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.text == text


@pytest.mark.parametrize("text", [HEX64, f"sha256:{HEX64}", SHA512])
def test_an_id_stays_as_it_came(text: str) -> None:
    """Hex of a whole digest is an ID; it is kept as text, and it is not a name."""
    assert parse(text) == ImageID(text)
    assert str(parse(text)) == text
    with pytest.raises(ReferenceSyntaxError, match="image ID"):
        parse_reference(text)


def test_a_short_digest_is_a_name_with_a_tag() -> None:
    """`sha256:` and fewer digits is a repository called sha256, as distribution reads it."""
    assert parse("sha256:" + "a" * 63) == Reference("docker.io", "library/sha256", "a" * 63, None)


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("org/app:v1", "docker.io/org/app:v1", "org/app:v1"),
        (f"nginx:1@{SHA256}", f"docker.io/library/nginx:1@{SHA256}", f"nginx:1@{SHA256}"),
        ("library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
        ("quay.io/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ("docker.io/a.b/x", "docker.io/a.b/x:latest", "docker.io/a.b/x:latest"),
        (f"docker.io/{SHA256}", f"docker.io/library/{SHA256}", f"docker.io/library/{SHA256}"),
    ],
)
def test_prints_canonical_and_familiar(text: str, canonical: str, familiar: str) -> None:
    """Canonical text names everything; familiar text drops what parsing would add again."""
    image = parse_reference(text)
    assert str(image) == canonical
    assert image.familiar == familiar
    assert parse_reference(familiar) == image


def test_a_repository_of_64_hex_digits_keeps_its_domain() -> None:
    """Its name alone would be read as an image ID."""
    image = parse_reference(f"docker.io/{'a1' * 32}:1")
    assert image.familiar_name == image.name


def test_the_digest_is_what_a_manifest_is_asked_by() -> None:
    """With tag and digest, the manifest is asked for by digest."""
    assert parse_reference(f"nginx:1@{SHA256}").manifest_reference == SHA256
    assert parse_reference("nginx:1").manifest_reference == "1"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("sealos.hub:5000", True),
        ("[::1]:5000", True),
        ("localhost", True),
        ("registry", False),
        ("registry:443", True),
        ("a_b:5000", False),
        ("a.b:", False),
        ("", False),
    ],
)
def test_knows_what_can_be_a_domain(text: str, valid: bool) -> None:
    """A domain is what the grammar allows and the normalisation would read as one."""
    assert valid_domain(text) is valid


def test_knows_what_can_be_a_path() -> None:
    """A path is components of the grammar, at most 255 characters together."""
    assert valid_path("library/nginx")
    assert not valid_path("library//nginx")
    assert not valid_path("a" * 256)


@pytest.mark.parametrize("port", ["0", "05000", "00", "65536", "99999", "123456", "4" * 200])
@pytest.mark.parametrize("host", ["localhost", "hub.example", "[::1]"])
def test_a_port_is_a_port(host: str, port: str) -> None:
    """1 to 65535 with no zero in front: what is none of these is no image's name."""
    text = f"{host}:{port}/app:v1"
    with pytest.raises(ReferenceSyntaxError, match=r"port|longer than 259"):
        parse(text)
    assert not valid_domain(f"{host}:{port}")


@pytest.mark.parametrize("port", ["1", "80", "5000", "65535"])
def test_ports(port: str) -> None:
    """Both ends of the range are in it."""
    assert parse_reference(f"localhost:{port}/app").domain == f"localhost:{port}"


@pytest.mark.parametrize("text", ["a" * 16_777_216, "a" * 1025, "sha256:" + "0" * 16_000_000])
def test_what_is_too_long_is_refused_at_once(text: str) -> None:
    """16 MiB are no name; the error keeps and shows the beginning alone."""
    with pytest.raises(ReferenceSyntaxError, match="longer than 1024") as caught:
        parse(text)
    assert len(str(caught.value)) < 2000
    assert len(caught.value.text) < 2000
    with pytest.raises(ReferenceSyntaxError):
        parse_reference(text)


def test_the_longest_name_is_one() -> None:
    """Every part at its limit together is below the limit of the whole."""
    domain = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61]) + ":65535"
    text = f"{domain}/{'p' * 255}:{'t' * 128}@sha512:{'0' * 128}"
    assert str(parse(text)) == text
