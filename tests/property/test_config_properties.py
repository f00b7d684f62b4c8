"""Configurations: no text crashes the reader, and no secret gets out of it."""

from __future__ import annotations

import json
import traceback

import yaml
from hypothesis import given
from hypothesis import strategies as st

from shimcore.config import masked, parse_config
from shimcore.config.durations import format_duration, parse_duration
from shimcore.errors import ConfigError

# Long and odd enough not to occur in a message by itself.
secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cs", "Cc"]),
    min_size=4,
    max_size=12,
).map(lambda text: f"Zq{text}qZ")

WAYS_TO_WRITE = [
    "address: http://h.example\nauth: {quoted}\n",
    "address: http://h.example\nauth: u:{plain}\n",
    "address: http://h.example\nauth: {plain}\n",
    "address: http://h.example\nauth: [{plain}\n",
    "address: http://h.example\nauth: *{plain}\n",
    "address: http://h.example\nauth: !{plain}! x\n",
    "address: http://h.example\nauth: &{plain}\n",
    'address: http://h.example\nauth: "\\{plain}\n',
    "address: http://u:{plain}@h.example\n",
    "address: u:{plain}\n",
    "address: {quoted}\n",
    "address: http://h.example/{plain}\n",
    "address: http://h.example\nhub: {{passwordFile: {quoted}}}\n",
    "address: http://h.example\nhub: {{dockerConfig: {quoted}}}\n",
    "address: http://h.example\nhub: {quoted}\n",
    "address: http://h.example\nregistries: [{{address: a.b, auth: {quoted}}}, {quoted}]\n",
    "address: http://h.example\nauth: {{user: u, password: {quoted}}}\n",
    "address: http://h.example\n{quoted}: x\n",
    "address: http://h.example\nauth:\n  u:{plain}: 1\n",
    "{quoted}",
]


@given(secrets, st.sampled_from(WAYS_TO_WRITE))
def test_no_secret_gets_out(secret: str, way: str) -> None:
    """However a login is written, rightly or wrongly, no error, trace, repr or mask shows it."""
    text = way.format(quoted=json.dumps(f"u:{secret}"), plain=secret)
    try:
        config = parse_config(text, "test.yaml")
    except ConfigError as error:
        shown = f"{error} {error!r} {error.faults} " + "".join(traceback.format_exception(error))
    else:
        shown = f"{config} {config!r} {masked(config)} {config.notices}"
    assert secret not in shown
    assert secret.encode("unicode_escape").decode() not in shown


@given(st.one_of(st.text(), st.text("address: [{&*!|>-}]\n\"'#%@`,?~\\0xu")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any text is a configuration or a ConfigError of single lines."""
    try:
        parse_config(text, "test.yaml")
    except ConfigError as error:
        faults = [str(fault) for fault in error.faults]
        assert faults
        assert all(len(fault.splitlines()) == 1 for fault in faults)


trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = ["address", "auth", "cri", "shim", "timeout", "cache", "hub", "registries", "domains"]
NAMES += ["path", "priority", "imageCacheSize", "exclude", "metrics", "names", "passwordFile"]
documents = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(trees, st.dictionaries(st.sampled_from(NAMES), trees, max_size=3)),
    max_size=6,
)


@given(documents)
def test_known_keys_with_any_value(document: dict[str, object]) -> None:
    """Whatever stands at a known key, the answer is a configuration or its faults."""
    try:
        config = parse_config(yaml.safe_dump(document), "test.yaml")
    except ConfigError as error:
        assert error.faults  # noqa: PT017
    else:
        assert config.timeout_s > 0
        assert all(0 <= one.priority <= 10_000 for one in config.registries)
        json.dumps(masked(config))


@given(st.integers(0, 10**15))
def test_durations_print_and_read_back(nanoseconds: int) -> None:
    """Every duration that is printed reads back as the same."""
    seconds = nanoseconds / 1_000_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text("0123456789.hmsnu\u00b5-+ "))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """The reader of durations raises nothing but ValueError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert isinstance(seconds, float)
