"""References: what holds for every text, every image and every mirror."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shimcore.errors import ReferenceSyntaxError
from shimcore.reference import (
    ImageID,
    Mirror,
    Reference,
    Unmapped,
    is_excluded,
    parse,
    parse_reference,
    rewrite,
)

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535).map(str)
hosts = st.one_of(
    st.lists(labels, min_size=2, max_size=4).map(".".join),
    st.just("localhost"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address.packed.hex(':', 2)}]"),
)
domains = st.one_of(
    st.sampled_from(["docker.io", "quay.io", "Foo"]),
    hosts,
    st.tuples(hosts, ports).map(":".join),
    st.tuples(labels, ports).map(":".join),
)
components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,16}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}")


@st.composite
def texts_of_references(draw: st.DrawFn) -> str:
    domain = draw(st.one_of(st.sampled_from(["", "docker.io/"]), domains.map(lambda d: f"{d}/")))
    tag = draw(st.one_of(st.just(""), tags.map(lambda t: f":{t}")))
    digest = draw(st.one_of(st.just(""), digests.map(lambda d: f"@{d}")))
    path = draw(paths)
    if not domain and "." in path.partition("/")[0]:
        domain = "docker.io/"
    return domain + path + tag + digest


images = texts_of_references().map(parse_reference)
mirrors = st.builds(
    Mirror,
    domains,
    st.sampled_from(["{path}", "proxy/{path}", "{domain}/{path}", "a/{domain}/b/{path}"]),
    st.one_of(st.none(), st.just(frozenset({"*"})), st.frozensets(domains, max_size=3)),
)


@given(images)
def test_printing_and_parsing_again_changes_nothing(image: Reference) -> None:
    """Canonical and familiar text both mean the same image again."""
    assert parse_reference(str(image)) == image
    assert parse_reference(image.familiar) == image


@given(images, mirrors)
def test_a_candidate_keeps_path_tag_and_digest(image: Reference, mirror: Mirror) -> None:
    """Whatever the mirror: tag and digest are the same, the path is inside, the text is legal."""
    candidate = rewrite(image, mirror)
    if isinstance(candidate, Unmapped):
        assert candidate.reason
        return
    assert (candidate.tag, candidate.digest) == (image.tag, image.digest)
    assert candidate.path.endswith(image.path)
    understood = parse_reference(str(candidate))
    assert understood.name == candidate.name
    assert understood.digest == image.digest


@given(images, images)
def test_two_domains_never_meet_in_one_repository(one: Reference, other: Reference) -> None:
    """With {domain} in the template, different source repositories stay different."""
    mirror = Mirror("mirror.example:5000", "{domain}/{path}")
    first, second = rewrite(one, mirror), rewrite(other, mirror)
    if isinstance(first, Reference) and isinstance(second, Reference) and first.path == second.path:
        assert one.name.lower() == other.name.lower()


@given(
    st.one_of(st.text(), st.text("aA0/:@.-_[]{}\n sha256"), texts_of_references().map(str.swapcase))
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text brings anything but a value or a ReferenceSyntaxError inside the text."""
    try:
        value = parse(text)
    except ReferenceSyntaxError as error:
        inside = 0 <= error.position <= len(text)
    else:
        inside = isinstance(value, Reference | ImageID) and parse(str(value)) == value
    assert inside


@given(images, st.lists(st.text(), max_size=3))
def test_any_text_is_a_harmless_pattern(image: Reference, patterns: list[str]) -> None:
    """A pattern of any text matches or not, and what matches is one of them."""
    found = is_excluded(image, patterns)
    assert found is None or found in patterns
