"""Lists of patterns: the same as one after the other, in a time that a list cannot stretch."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.reference import Patterns, is_excluded, parse_reference

_text = st.text("ab*?[]!/.", max_size=6)


@given(st.lists(_text, max_size=200), st.lists(_text, min_size=1, max_size=4))
def test_as_one_after_the_other(patterns: list[str], forms: list[str]) -> None:
    """The first pattern that is, or matches, one of the forms."""
    slow = next(
        (one for one in patterns if any(one == form or fnmatchcase(form, one) for form in forms)),
        None,
    )
    assert Patterns(patterns).first(forms) == slow


def test_it_is_a_tuple_of_texts() -> None:
    """It shows, compares and hashes as one."""
    patterns = Patterns(["a*", "b"])
    assert patterns.ready() is patterns
    assert hash(patterns) == hash(("a*", "b"))
    assert patterns == ("a*", "b")


@pytest.mark.parametrize(
    "pattern",
    ["reg{}.example/*", "*{}b", "*" + "a*" * 20 + "{}b", "*[ab]*?[ab]*?{}z", "{}.example"],
)
def test_a_thousand_patterns_cost_a_new_name_little(pattern: str) -> None:
    """A twentieth of a millisecond or two; whatever stands in the patterns."""
    patterns = Patterns(pattern.format(number) for number in range(1024)).ready()
    names = [parse_reference(f"other{n}.example/{'a' * 230}:1") for n in range(20)]
    started = time.process_time()
    for name in names:
        assert is_excluded(name, patterns) is None
    assert time.process_time() - started < 0.5


def test_a_name_is_tried_once_in_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of Docker Hub have shorter ones, and each costs up to 30 ms."""
    tried: list[str] = []
    monkeypatch.setattr(Patterns, "first", lambda _, forms, *__: tried.extend(forms))
    is_excluded(parse_reference("quay.io/a:1"), Patterns(["b*"]))
    is_excluded(parse_reference("nginx:1"), Patterns(["b*"]))
    assert tried[:2] == ["quay.io/a:1", "quay.io/a"]
    assert sorted(tried[2:]) == [
        "docker.io/library/nginx",
        "docker.io/library/nginx:1",
        "docker.io/nginx",
        "docker.io/nginx:1",
        "nginx",
        "nginx:1",
    ]
