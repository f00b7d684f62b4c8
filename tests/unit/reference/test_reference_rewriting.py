"""The name of an image on a registry, and the images that are left alone."""

from __future__ import annotations

import pytest

from shimcore.reference import (
    Mirror,
    Reference,
    Unmapped,
    is_docker_hub,
    is_excluded,
    is_well_known,
    normalised_host,
    parse_reference,
    patterns,
    rewrite,
    serves,
    template_fault,
)

SHA256 = "sha256:" + "a" * 64
HUB = "sealos.hub:5000"


@pytest.mark.parametrize(
    ("image", "template", "expected"),
    [
        ("nginx", "{path}", "sealos.hub:5000/library/nginx:latest"),
        ("quay.io/org/app:v1", "{path}", "sealos.hub:5000/org/app:v1"),
        (f"nginx:1@{SHA256}", "{path}", f"sealos.hub:5000/library/nginx:1@{SHA256}"),
        (
            f"nginx@{SHA256}",
            "dockerhub/{path}",
            f"sealos.hub:5000/dockerhub/library/nginx@{SHA256}",
        ),
        ("quay.io/org/app", "{domain}/{path}", "sealos.hub:5000/quay.io/org/app:latest"),
        ("host:5000/app", "{domain}/{path}", "sealos.hub:5000/host_5000/app:latest"),
        ("Foo/app", "{domain}/{path}", "sealos.hub:5000/foo/app:latest"),
        ("[::1]:5000/app", "{domain}/{path}", "sealos.hub:5000/0_0_0_0_0_0_0_1_5000/app:latest"),
        ("[2001:DB8::1]/app", "{domain}/{path}", "sealos.hub:5000/2001_db8_0_0_0_0_0_1/app:latest"),
        ("[::ffff:a:5]/app", "{domain}/{path}", "sealos.hub:5000/0_0_0_0_0_ffff_a_5/app:latest"),
        ("quay.io/org/app", "m-{domain}/x/{path}", "sealos.hub:5000/m-quay.io/x/org/app:latest"),
    ],
)
def test_the_candidate_keeps_tag_and_digest(image: str, template: str, expected: str) -> None:
    """Host and templated path are the mirror's; tag and digest are the image's own."""
    assert str(rewrite(parse_reference(image), Mirror(HUB, template))) == expected


@pytest.mark.parametrize(
    ("image", "mirror", "reason"),
    [
        ("[fffff::1]/app", Mirror(HUB, "{domain}/{path}"), "cannot be a part"),
        ("a/" * 127 + "a", Mirror(HUB, "proxy/{path}"), "longer than 255"),
        ("quay.io/app", Mirror("docker.io", domains=frozenset({"*"})), "would be read as"),
        ("quay.io/app", Mirror("registry"), "would be read as"),
        ("nginx", Mirror(HUB, "Upper/{path}"), "not a legal name"),
    ],
)
def test_what_has_no_legal_name_is_unmapped(image: str, mirror: Mirror, reason: str) -> None:
    """An illegal or ambiguous candidate is a reason, not a crash and not another image."""
    answer = rewrite(parse_reference(image), mirror)
    assert isinstance(answer, Unmapped)
    assert reason in answer.reason


@pytest.mark.parametrize(
    ("host", "image", "served"),
    [
        ("docker.io", "nginx", True),
        ("docker.io", "quay.io/org/app", False),
        ("registry-1.docker.io", "quay.io/org/app", False),
        ("QUAY.io:443", "org/app", False),
        ("ghcr.io", "ghcr.io/org/app", True),
        ("europe-docker.pkg.dev", "quay.io/org/app", False),
        ("us.gcr.io", "quay.io/org/app", False),
        ("registry.cn-hangzhou.aliyuncs.com", "quay.io/org/app", False),
        (HUB, "quay.io/org/app", True),
        ("harbor.example.com", "nginx", True),
    ],
)
def test_a_public_registry_serves_only_its_own_domain(host: str, image: str, served: bool) -> None:
    """A stranger's docker.io/org/app cannot stand in for quay.io/org/app (dependency confusion)."""
    answer = rewrite(parse_reference(image), Mirror(host))
    assert isinstance(answer, Reference) is served


@pytest.mark.parametrize(
    ("domains", "image", "served"),
    [
        ({"docker.io"}, "nginx", True),
        ({"index.docker.io"}, "nginx", True),
        ({"docker.io"}, "quay.io/a/b", False),
        ({"quay.io", "ghcr.io"}, "ghcr.io/a/b", True),
        ({"Quay.IO"}, "quay.io/a/b", True),
        ({"*.example.com"}, "a.example.com/b", True),
        ({"*.example.com"}, "example.com/b", False),
        ({"*"}, "quay.io/a/b", True),
        ({"[::1]:5000"}, "[::1]:5000/a", True),
        (set(), "nginx", False),
    ],
)
def test_domains_say_what_a_registry_serves(domains: set[str], image: str, served: bool) -> None:
    """Configured domains replace the default rule, in both directions."""
    mirror = Mirror("docker.io" if "*" in domains else HUB, domains=frozenset(domains))
    assert isinstance(rewrite(parse_reference(image), mirror), Reference) is served


def test_domains_are_made_ready_with_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first image the event loop would stand still for it."""
    mirror = Mirror(HUB, domains=frozenset({"*.ready.example"}))
    monkeypatch.setattr(patterns, "translate", None)
    assert serves(mirror, "quay.ready.example")
    assert not serves(mirror, "quay.io")


def test_hosts_that_are_the_same() -> None:
    """Case, a default port and Docker Hub's other hosts make no difference."""
    assert normalised_host("Index.Docker.io:443") == "docker.io"
    assert is_docker_hub("registry-1.docker.io")
    assert is_well_known("QUAY.IO")
    assert not is_well_known("quay.io.example.com")
    assert not is_well_known("notquay.io")


@pytest.mark.parametrize(
    ("image", "pattern", "excluded"),
    [
        ("nginx", "nginx", True),
        ("nginx", "nginx:latest", True),
        ("nginx", "nginx:1.25", False),
        ("nginx", "docker.io/library/nginx", True),
        ("nginx", "docker.io/nginx:latest", True),
        ("nginx", "docker.io/*", True),
        ("nginx", "ngin", False),
        ("quay.io/org/app:v1", "quay.io/*", True),
        ("quay.io/org/app:v1", "quay.io", True),
        ("quay.io/org/app:v1", "*/app:v?", True),
        ("quay.io/org/app:v1", "*:v[23]", False),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause*", True),
        ("[::1]:5000/x", "[::1]:5000", True),
        ("[::1]:5000/x", "[::1]:5000/x", True),
    ],
)
def test_excluded_by_any_form_of_its_name(image: str, pattern: str, excluded: bool) -> None:
    """A glob that matches the whole canonical or familiar form, with or without tag, excludes."""
    assert (is_excluded(parse_reference(image), [pattern]) == pattern) is excluded


def test_the_first_matching_pattern_is_named() -> None:
    """The answer is the pattern, so that it can be shown."""
    assert is_excluded(parse_reference("nginx"), ["redis", "ngi*", "nginx"]) == "ngi*"
    assert is_excluded(parse_reference("nginx"), []) is None


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{path}", None),
        ("dockerhub/{path}", None),
        ("{domain}/{path}", None),
        ("proxy", "{path} is missing"),
        ("{image}/{path}", "{image}"),
        ("/{path}", "no repository path"),
        ("{path}/", "no repository path"),
        ("Proxy/{path}", "no repository path"),
        ("{path}:latest", "no repository path"),
        ("{{path}}", "no repository path"),
    ],
)
def test_a_template_is_checked_before_use(template: str, fault: str | None) -> None:
    """A template knows two placeholders, needs {path}, and has to make a legal path."""
    found = template_fault(template)
    assert (found is None) if fault is None else (found is not None and fault in found)
