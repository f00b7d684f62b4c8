from __future__ import annotations

import asyncio
import string
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shimcore.config import Config, Credentials, Fallback, Names, Registry
from shimcore.config.model import CacheSettings
from shimcore.images.attempts import Attempt, Result
from shimcore.images.candidates import candidates_of
from shimcore.images.resolver import Resolver
from shimcore.images.wording import reason, refusal, shortened
from shimcore.pb import cri_pb2
from shimcore.reference import Mirror, Patterns, Reference, parse_reference
from shimcore.registry.answers import Outcome
from tests.unit.images.fakes import Bench, FakeRegistries, FakeRuntime, config_of, failed

CALLERS = "callers-secret"

components = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-)[a-z0-9]{1,3})?", fullmatch=True)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
domains = st.sampled_from(
    ["docker.io", "quay.io", "localhost", "reg.local", "h:5000", "[::1]:5000", "a-b.example:443"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """A reference as parsing gives it: with a tag, a digest, or both."""
    tag = draw(st.none() | tags)
    digest = draw(digests if tag is None else st.none() | digests)
    image = Reference(draw(domains), draw(paths), tag, digest)
    return parse_reference(str(image))


@st.composite
def registries(draw: st.DrawFn, number: int) -> Registry:
    """A registry with its own secret, any template, and any domains."""
    host = draw(st.sampled_from([f"r{number}.local:5000", f"r{number}.example", "docker.io"]))
    template = draw(
        st.sampled_from(["{path}", "{domain}/{path}", "proxy/{path}", "a/{domain}/b/{path}"])
    )
    served = draw(st.none() | st.frozensets(domains, min_size=1, max_size=3) | st.just({"*"}))
    credentials = draw(
        st.sampled_from(
            [
                None,
                Credentials("user", f"secret-of-{number}"),
                Credentials("", "", f"secret-of-{number}"),
            ]
        )
    )
    mirror = Mirror(host, template, None if served is None else frozenset(served))
    return Registry(
        f"http://{host}", "http", host, mirror, 1000 - number, not number, credentials, "auth"
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A hub and up to three registries, best first; no host is given twice."""
    drawn = [draw(registries(number)) for number in range(draw(st.integers(1, 4)))]
    all_of_them = tuple({registry.host: registry for registry in drawn}.values())
    return replace(
        config_of(),
        hub=all_of_them[0],
        registries=all_of_them,
        names=draw(st.sampled_from(Names)),
        fallback=draw(st.sampled_from(Fallback)),
        cache=CacheSettings(draw(st.sampled_from([0, 8])), 60, 60, 60, disable_stats=True),
        probe_timeout_s=1,
    )


@given(references(), configs())
def test_candidate_keeps_path_tag_and_digest(image: Reference, config: Config) -> None:
    """For any reference and config; and what is printed is read back as the same value."""
    assert parse_reference(str(image)) == image
    for candidate in candidates_of(image, config).ranked:
        reference = candidate.reference
        assert reference.domain == candidate.registry.mirror.host
        assert reference.path.endswith(image.path)
        assert (reference.tag, reference.digest) == (image.tag, image.digest)
        assert parse_reference(str(reference)) == reference


@given(references(), references(), configs())
def test_templates_that_keep_domains_apart_never_mix_them(
    one: Reference, other: Reference, config: Config
) -> None:
    """Two domains' images have two names wherever the template has `{domain}`."""
    other = replace(other, path=one.path, tag=one.tag, digest=one.digest)
    if one.domain.lower() == other.domain.lower():
        return
    for registry in config.registries:
        if "{domain}" not in registry.mirror.path_template:
            continue
        names = [
            {str(each.reference) for each in candidates_of(image, config).ranked
             if each.registry is registry}
            for image in (one, other)
        ]  # fmt: skip
        assert not names[0] & names[1]


@given(references(), configs())
def test_public_registry_is_asked_for_its_own_images_only(image: Reference, config: Config) -> None:
    """Unless its `domains` say otherwise, docker.io is no place for another domain's image."""
    for candidate in candidates_of(image, config).ranked:
        if candidate.registry.host == "docker.io" and candidate.registry.mirror.domains is None:
            assert image.domain == "docker.io"


outcomes = st.sampled_from([each for each in Outcome if each is not Outcome.SKIPPED])


@given(st.lists(st.tuples(outcomes, st.integers(0, 3)), min_size=1, max_size=5), st.data())
def test_best_found_by_priority_is_chosen(
    answers: list[tuple[Outcome, int]], data: st.DataObject
) -> None:
    """For any outcomes in any order of arrival; and so on when that one has failed."""
    base = config_of().registries[0]
    hosts = [f"r{number}.local:5000" for number in range(len(answers))]
    config = replace(
        config_of(),
        registries=tuple(replace(base, host=host, mirror=Mirror(host)) for host in hosts),
        exclude=Patterns(),
    )
    fake = FakeRegistries(
        {host: outcome for host, (outcome, _) in zip(hosts, answers, strict=True)},
        {host: delay / 1000 for host, (_, delay) in zip(hosts, answers, strict=True)},
    )
    found = [at for at, (outcome, _) in enumerate(answers) if outcome is Outcome.FOUND]
    tried = data.draw(st.sets(st.sampled_from(range(len(answers)))))
    where = candidates_of(parse_reference("nginx"), config)

    async def ask() -> tuple[int | None, int | None]:
        with Resolver(config, fake).probe(where) as probe:
            return await probe.next_found(), await probe.next_found(tried)

    first, following = asyncio.run(ask())
    assert first == next(iter(found), None)
    assert following == next((at for at in found if at not in tried), None)


@given(references(), configs(), st.data())
def test_credentials_go_only_where_they_belong(
    image: Reference, config: Config, data: st.DataObject
) -> None:
    """The caller's never with a candidate's name, a registry's never with another's.

    Over two pulls of one image, whatever registries answer and whichever pulls fail.
    """
    hosts = sorted({registry.host for registry in config.registries})
    fake = FakeRegistries({host: data.draw(outcomes) for host in hosts})
    runtime = FakeRuntime(store=data.draw(st.booleans()))
    for host in data.draw(st.sets(st.sampled_from([*hosts, image.domain]))):
        runtime.failing[host] = failed("500 Internal Server Error")
    auth = {"username": "caller", "password": CALLERS} if data.draw(st.booleans()) else {}

    async def pull() -> None:
        bench = Bench(config, fake, runtime)
        await bench.pull(str(image), **auth)
        await bench.pull(str(image), **auth)

    asyncio.run(pull())
    where = candidates_of(image, config)
    candidates = {str(each.reference): each.registry for each in where.ranked}
    for request in runtime.pulls:
        _check_credentials(request, str(image), candidates, where.source, sent=bool(auth))
    if config.fallback is Fallback.DENY and where.source is None:
        assert all(request.image.image in candidates for request in runtime.pulls)


def _check_credentials(
    request: cri_pb2.PullImageRequest,
    image: str,
    candidates: dict[str, Registry],
    own: Registry | None,
    *,
    sent: bool,
) -> None:
    name, text = request.image.image, str(request.auth)
    allowed = candidates.get(name)
    if allowed is not None:
        assert CALLERS not in text
    else:
        assert name == image
        assert (CALLERS in text) is sent
        allowed = None if sent else own
    for number in range(4):
        if f"secret-of-{number}" in text:
            assert allowed is not None
            assert allowed.credentials is not None
            secrets = (allowed.credentials.password, allowed.credentials.identity_token)
            assert f"secret-of-{number}" in secrets


@given(st.text(), st.text(string.ascii_letters, min_size=4, max_size=30))
def test_reason_never_has_the_secret_nor_a_line_break(text: str, secret: str) -> None:
    """Wherever the secret stands in what others say."""
    shown = reason(f"{text} {secret} {text}", [secret])
    assert secret not in shown
    assert shown.isprintable()


@given(st.dictionaries(components, st.text(), max_size=30), st.text())
def test_refusal_is_bounded_and_printable(reasons: dict[str, str], image: str) -> None:
    """Whatever registries say."""
    attempts = [Attempt(host, Result.FAILED, reason(text)) for host, text in reasons.items()]
    text = refusal(image, attempts)
    assert len(text.encode()) <= 4096
    assert text.isprintable()


@given(st.text(), st.integers(8, 300))
def test_shortened_keeps_both_ends(text: str, limit: int) -> None:
    """In bytes; and what fits is not touched."""
    short = shortened(text, limit)
    assert len(short.encode(errors="replace")) <= limit
    if len(text.encode(errors="replace")) <= limit:
        assert short == text
