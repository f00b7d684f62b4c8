"""WWW-Authenticate: parsing and printing."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.registry.challenge import (
    LIMIT_CHARACTERS,
    LIMIT_ELEMENTS,
    Challenge,
    ChallengeSyntaxError,
    parse_challenges,
)

TOKEN = st.text(string.ascii_lowercase + string.digits + "-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)
WITH_PARAMETERS = st.builds(
    Challenge, TOKEN, st.lists(st.tuples(TOKEN, VALUE), max_size=4).map(tuple)
)
WITH_TOKEN68 = st.builds(
    Challenge,
    TOKEN,
    token68=st.from_regex(r"[A-Za-z0-9\-._~+/]{1,20}={0,2}", fullmatch=True),
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/nginx:pull"',
            Challenge(
                "bearer",
                (
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:library/nginx:pull"),
                ),
            ),
            id="docker-hub",
        ),
        pytest.param(
            'Basic realm="Registry Realm"',
            Challenge("basic", (("realm", "Registry Realm"),)),
            id="distribution-htpasswd",
        ),
        pytest.param("BASIC", Challenge("basic"), id="scheme-alone"),
        pytest.param(
            "Bearer realm=https://r.example/token,service=r",
            Challenge("bearer", (("realm", "https://r.example/token"), ("service", "r"))),
            id="realm-not-quoted",
        ),
        pytest.param(
            'bearer  REALM = "a\\"b\\\\c" ,  Service="s"',
            Challenge("bearer", (("realm", 'a"b\\c'), ("service", "s"))),
            id="spaces-and-escapes",
        ),
        pytest.param("Negotiate YWJj==", Challenge("negotiate", token68="YWJj=="), id="token68"),
        pytest.param(
            'Bearer realm="x,y=z Basic q"',
            Challenge("bearer", (("realm", "x,y=z Basic q"),)),
            id="commas-inside-quotes",
        ),
    ],
)
def test_one_challenge(header: str, expected: Challenge) -> None:
    """One field with one challenge, as registries write them."""
    assert parse_challenges([header]) == (expected,)


def test_several_challenges_in_one_field() -> None:
    """A token that no `=` follows begins the next challenge."""
    header = 'Bearer realm="r", service="s", Negotiate, Basic realm="b", Digest abc='
    assert [str(challenge) for challenge in parse_challenges([header])] == [
        'bearer realm="r", service="s"',
        "negotiate",
        'basic realm="b"',
        "digest abc=",
    ]


def test_several_fields_are_one_list() -> None:
    """Repeated fields mean the same as one joined by commas."""
    assert parse_challenges(["Basic", "", "Bearer a=b"]) == parse_challenges(["Basic, ,Bearer a=b"])


def test_get_is_the_first_of_a_name() -> None:
    """A parameter that is repeated does not change what came first."""
    (challenge,) = parse_challenges(['Bearer realm="first", realm="second"'])
    assert challenge.get("realm") == "first"
    assert challenge.get("scope") == ""


@pytest.mark.parametrize(
    ("header", "position"),
    [
        ('Bearer realm="open', 13),
        ('Bearer service="s" realm="r"', 19),
        ("Bearer realm=https://user name@r.example/token", 26),
        ("Bearer realm=https://r.example/token service=r", 37),
        ('="x"', 0),
        ("Basic@x", 5),
        ("a" * (LIMIT_CHARACTERS + 1), 0),
    ],
)
def test_an_error_points_at_the_place(header: str, position: int) -> None:
    """What cannot be read is an error with its offset."""
    with pytest.raises(ChallengeSyntaxError) as caught:
        parse_challenges([header])
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["Basic realm=Registry Realm"], ["basic"]),
        (['Basic realm="x";charset="UTF-8"'], ['basic realm="x"']),
        (['Basic realm="x'], ["basic"]),
        (['Bearer realm="r",service="s" scope="c"'], ['bearer realm="r", service="s"']),
        (['Bearer realm="r",service=My Registry'], ['bearer realm="r"']),
        (['Bearer realm="r",scope='], ['bearer realm="r"']),
        (['Basic realm="b", Bearer realm=r s'], ['basic realm="b"']),
        (['Bearer realm="open', "Basic"], ["basic"]),
        (['Basic realm="b" x', 'Bearer realm="r"'], ['basic realm="b"', 'bearer realm="r"']),
    ],
)
def test_what_stands_before_a_slip_counts(headers: list[str], expected: list[str]) -> None:
    """A value without quotes, which may be cut short, does not: it may be where a login goes."""
    assert [str(challenge) for challenge in parse_challenges(headers)] == expected


def test_a_bound_is_no_slip() -> None:
    """What is too much is refused whole, whatever stands before it."""
    for headers in (
        ["Basic", "a" * (LIMIT_CHARACTERS + 1)],
        ["Basic " + ",".join(f'p{number}="x"' for number in range(LIMIT_ELEMENTS))],
    ):
        with pytest.raises(ChallengeSyntaxError):
            parse_challenges(headers)


@given(st.lists(st.one_of(WITH_PARAMETERS, WITH_TOKEN68), max_size=4))
def test_printed_challenges_read_back(challenges: list[Challenge]) -> None:
    """parse(print(x)) is x, as one field and as several."""
    printed = [str(challenge) for challenge in challenges]
    assert parse_challenges(printed) == tuple(challenges)
    assert parse_challenges([", ".join(printed)]) == tuple(challenges)


@given(st.one_of(st.text(max_size=60), st.text('Basic realm=",\\ \t=/', max_size=40)))
def test_any_text_parses_or_raises_its_own_error(header: str) -> None:
    """No text raises anything else, and every challenge read has a scheme."""
    try:
        challenges = parse_challenges([header])
    except ChallengeSyntaxError as raised:
        position = raised.position
    else:
        position = len(header)
        assert all(challenge.scheme for challenge in challenges)
    assert 0 <= position <= len(header)


def test_hostile_length_is_read_in_linear_time() -> None:
    """The longest accepted field of each shape is read without backtracking."""
    started = time.process_time()
    for shape in ("a,", 'a="\\"",', "a ", '"', "a=", "\\"):
        header = "Basic " + shape * ((LIMIT_CHARACTERS - 6) // len(shape))
        try:
            parse_challenges([header])
        except ChallengeSyntaxError:
            continue
    assert time.process_time() - started < 1
