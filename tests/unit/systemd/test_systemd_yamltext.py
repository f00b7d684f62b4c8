"""Keys changed in the text of a YAML mapping."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shimcore.systemd.yamltext import get_keys, set_keys
from shimcore.yamlreading import YamlError

KEYS = ("containerRuntimeEndpoint", "imageServiceEndpoint")
ENDPOINT = "unix:///var/run/image-cri-shim.sock"

CASES = {
    "absent": ("a: 1\n", f"a: 1\nk: {ENDPOINT}\n"),
    "no last line end": ("a: 1", f"a: 1\nk: {ENDPOINT}\n"),
    "comment kept": ("k: old # why\na: 1\n", f"k: {ENDPOINT} # why\na: 1\n"),
    "double quotes kept": ('k: ""\n', f'k: "{ENDPOINT}"\n'),
    "single quotes kept": ("k: 'x'\n", f"k: '{ENDPOINT}'\n"),
    "empty value": ("k:\na: 1\n", f"k: {ENDPOINT}\na: 1\n"),
    "empty value, comment": ("k: # none\na: 1\n", f"k: {ENDPOINT} # none\na: 1\n"),
    "quoted key": ('"k": x\n', f'"k": {ENDPOINT}\n'),
    "twice": ("k: x\nk: y\n", f"k: {ENDPOINT}\nk: {ENDPOINT}\n"),
    "windows": ("a: 1\r\nk: x\r\n", f"a: 1\r\nk: {ENDPOINT}\r\n"),
    "windows, absent": ("a: 1\r\n", f"a: 1\r\nk: {ENDPOINT}\r\n"),
    "indented": ("  a: 1\n  b: 2\n", f"  a: 1\n  b: 2\n  k: {ENDPOINT}\n"),
    "empty file": ("", f"k: {ENDPOINT}\n"),
    "comments alone": ("# nothing\n", f"# nothing\nk: {ENDPOINT}\n"),
    "marker": ("---\na: 1\n", f"---\na: 1\nk: {ENDPOINT}\n"),
    "document end": ("a: 1\n...\n", f"k: {ENDPOINT}\na: 1\n...\n"),
    "block scalar": ("k: |\n  x\na: 1\n", f"k: {ENDPOINT}\na: 1\n"),
    "after a block scalar": ("a: |\n  x", f"k: {ENDPOINT}\na: |\n  x"),
    "json": ('{"a": 1}', f'{{"k": "{ENDPOINT}", "a": 1}}'),
    "json there": ('{"k": "x", "a": 1}', f'{{"k": "{ENDPOINT}", "a": 1}}'),
    "empty json": ("{}\n", f'{{"k": "{ENDPOINT}"}}\n'),
    "nested alike": ("a:\n  k: x\n", f"a:\n  k: x\nk: {ENDPOINT}\n"),
    "list value": ("k: [1, 2]\na: 1\n", f"k: {ENDPOINT}\na: 1\n"),
    "json with tabs": ('{\n\t"a": 1\n}\n', f'{{"k": "{ENDPOINT}", \n\t"a": 1\n}}\n'),
    "tab before a comment": ("k: x\t# why\n", f"k: {ENDPOINT}\t# why\n"),
    "marker at the end": ("a: 1\n---\n", f"a: 1\nk: {ENDPOINT}\n---\n"),
    "a second document": ("a: 1\n---\nk: x\n", f"a: 1\nk: {ENDPOINT}\n---\nk: x\n"),
    "nothing in the first": ("---\n# x\n---\nk: x\n", f"---\n# x\nk: {ENDPOINT}\n---\nk: x\n"),
    "null": ("k: null\n", f"k: {ENDPOINT}\n"),
    "mark of a file": ("\ufeffk: x\n", f"\ufeffk: {ENDPOINT}\n"),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_a_key_is_set_in_the_text(before: str, after: str) -> None:
    """The value is put in its place, and nothing else changes."""
    assert set_keys(before, {"k": ENDPOINT}) == after


@pytest.mark.parametrize("before", [case[1] for case in CASES.values()], ids=CASES)
def test_what_is_so_already_stays(before: str) -> None:
    """Setting a key twice is setting it once."""
    assert set_keys(before, {"k": ENDPOINT}) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"a: 1\nk: {ENDPOINT}\n", "a: 1\n"),
        (f"k: {ENDPOINT}  # ours\r\na: 1\r\n", "a: 1\r\n"),
        (f'{{"k": "{ENDPOINT}", "a": 1}}', '{"k": "", "a": 1}'),
        (f"k: {ENDPOINT}\n---\nk: {ENDPOINT}\n", f"---\nk: {ENDPOINT}\n"),
        ("a: 1\n", "a: 1\n"),
    ],
)
def test_a_key_is_taken_out(before: str, after: str) -> None:
    """Its line goes; where it has none of its own it becomes empty."""
    assert set_keys(before, {"k": None}) == after


@pytest.mark.parametrize(
    "text",
    [
        *("- a\n", "just text", "a: [\n", "a: &x\n- *y", 'a: "\\UFFFFFFFF"\n', "a: \udce9\n"),
        *("[" * 3000, "a:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 3000))),
    ],
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """A list, a scalar, broken YAML, and what no reader could take."""
    with pytest.raises(YamlError):
        set_keys(text, {"k": ENDPOINT})


@pytest.mark.parametrize(
    "text",
    [
        "auth: admin:S3cretPass\n\t# tab\n",
        "auth: admin:S3cretPass: x\n",
        "auth: 'S3cretPass\n",
        "auth: *S3cretPass\n",
        "[S3cretPass]: x\n",
        "{S3cretPass: x}: y\n",
    ],
)
def test_an_error_has_nothing_of_the_text(text: str) -> None:
    """It may be a password: neither in the words, nor in an error behind them."""
    with pytest.raises(YamlError) as raised:
        set_keys(text, {"k": ENDPOINT})
    error: BaseException | None = raised.value
    while error is not None:
        assert "S3cret" not in f"{error}{error.args}"
        error = error.__cause__ or error.__context__


def test_an_anchor_that_others_need_is_refused() -> None:
    """Changing the key would change what refers to it."""
    with pytest.raises(YamlError, match="by hand"):
        set_keys("k: &a x\nb: *a\n", {"k": ENDPOINT})


def test_values_are_read_as_they_are_written() -> None:
    """Only scalars at the top; None for others."""
    text = "k: 'x y'\nn: 1\na:\n  b: 2\no: ~\np: '~'\n"
    expected = {"k": "x y", "n": "1", "a": None, "b": None, "o": None, "p": "~"}
    assert get_keys(text, (*expected,)) == expected


_NAMES = st.from_regex(r"[a-z][a-zA-Z]{0,8}", fullmatch=True)
_SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
    st.integers(),
    st.booleans(),
    st.none(),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _documents(draw: st.DrawFn) -> str:
    content: dict[str, Any] = draw(st.dictionaries(_NAMES, _VALUES, max_size=5))
    for key in KEYS:
        if draw(st.booleans()):
            content[key] = draw(
                st.sampled_from(["", "unix:///run/containerd/containerd.sock", None])
            )
    flow = draw(st.sampled_from([False, None, True]))
    text = yaml.safe_dump(content, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    if draw(st.booleans()):
        text = re.sub(r"(?m)^(\w+: \w+)$", r"\1  # kept", text)
    head = draw(st.sampled_from(["", "# head\n", "---\n", "# head\n---\n\n"]))
    tail = draw(st.sampled_from(["", "# tail\n", "\n\n"]))
    text = head + text + tail
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def _parsed(text: str) -> dict[str, Any]:
    return yaml.load(text, Loader=yaml.BaseLoader) or {}


@settings(max_examples=60)
@given(_documents())
def test_only_these_keys_change(text: str) -> None:
    """Read again, the rest is what it was; the comments are all there; twice is once."""
    new = set_keys(text, dict.fromkeys(KEYS, ENDPOINT))
    assert _parsed(new) == _parsed(text) | dict.fromkeys(KEYS, ENDPOINT)
    assert [new.count(mark) for mark in ("# head", "# kept", "# tail")] == [
        text.count(mark) for mark in ("# head", "# kept", "# tail")
    ]
    assert set_keys(new, dict.fromkeys(KEYS, ENDPOINT)) == new


@settings(max_examples=60)
@given(_documents())
def test_taking_it_back_gives_the_old_content(text: str) -> None:
    """Values that were there come back; keys that were not, or null, are gone or empty."""
    old = get_keys(text, KEYS)
    back = set_keys(set_keys(text, dict.fromkeys(KEYS, ENDPOINT)), old)
    parsed = _parsed(text).items()
    expected = {key: value for key, value in parsed if key not in KEYS or old[key] is not None}
    got = {key: value for key, value in _parsed(back).items() if value != "" or key in expected}
    assert got == expected
