"""URLs of realms and redirects."""

from __future__ import annotations

import httpx
import pytest

from shimcore.registry.http.url import LIMIT_CHARACTERS, Origin, asked_url, read_url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://hub:99999/", "between 1 and 65535"),
        ("http://hub:0/", "between 1 and 65535"),
        ("http://user:S3cr3t/rest@hub/", "not a URL"),
        ("http://hub\x00/", "not a URL"),
        ("http://\N{SNOWMAN}.example/", "not a URL"),
        ("http:///path", "without a host"),
        ("http://a b/", "without a host"),
        ("http://" + "x." * 127 + "/", "without a host"),
        ("ftp://hub/", "neither an http nor an https URL"),
        ("/path", "neither an http nor an https URL"),
        ("http://hub/" + "x" * LIMIT_CHARACTERS, "more than 8192 characters"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    """In words that repeat nothing of it, nor does what they were raised from."""
    with pytest.raises(ValueError, match=words) as raised:
        read_url(text)
    assert raised.value.__cause__ is None
    assert "S3cr3t" not in str(raised.value)


def test_a_host_that_is_no_idna_is_one_like_others() -> None:
    """In ASCII, as it is sent; decoding it for people could fail, or look like another name."""
    assert str(Origin.of(read_url("http://xn--a/x"))) == "http://xn--a"
    assert str(
        Origin.of(read_url("http://B\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example"))
    ) == ("http://xn--bcher-kva.example")


def test_user_and_fragment_are_left_out() -> None:
    """Of a redirect's target, for one."""
    url = read_url("//user:S3cr3t@hub/x#y", base=httpx.URL("https://other/"))
    assert str(url) == "https://hub/x"


def test_long_urls_are_not_remembered() -> None:
    """What is kept is bounded in bytes."""
    short, long = "http://hub/x", "http://hub/" + "x" * 2000
    assert asked_url(short) is asked_url(short)
    assert asked_url(long) is not asked_url(long)
