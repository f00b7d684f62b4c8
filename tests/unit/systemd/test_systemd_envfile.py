"""Flags in environment files."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.errors import ShimError
from shimcore.systemd.envfile import flag_in, flag_value, set_flag, variables, words

FLAG = "--container-runtime-endpoint"
SHIM = "unix:///var/run/image-cri-shim.sock"


def test_assignments_are_read_as_systemd_reads_them() -> None:
    """Quotes, comments, continuation lines, spaces, and the last of two."""
    text = (
        '# A=comment\n; B=comment\nC=one two  \nD="x \\"y\\" $z"\nE=\'a\\b\'\n'
        'F=one \\\n two\nG=\n H = spaced\nC=last\nnot an assignment\nI="two\nlines"\n'
    )
    assert variables(text) == {
        "C": "last",
        "D": 'x "y" $z',
        "E": "a\\b",
        "F": "one  two",
        "G": "",
        "H": "spaced",
        "I": "two\nlines",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=it's\nB='2'\n", {"A": "it's", "B": "2"}),
        ('A=5" tall\nB="x"\n', {"A": '5" tall', "B": "x"}),
        ('A=--n="l=b" --c\n', {"A": '--n="l=b" --c'}),
        ("A='x'\"y\" z 'u'\n", {"A": "xyz 'u'"}),
        ('A="x"\\\n"y"\n', {"A": 'x"y"'}),
        ("A=x\\\r\n y\r\nB=2\r\n", {"A": "x", "B": "2"}),
        ("A=1\rB=2\n", {"A": "1", "B": "2"}),
        ("A=x\\ \\\\  \n", {"A": "x \\"}),
        ("A=x\\  \n", {"A": "x "}),
        ("A='unclosed\nB=2\n", {"A": "unclosed\nB=2\n"}),
        ('A="unclosed\\', {"A": "unclosed"}),
        ("A=b\\", {"A": "b"}),
        ('export A=1\nA-B=1\n="\nB =2\n\ufeffC=3\n', {"B": "2"}),
        ('A="a\\\nb\\tc\\$"\n', {"A": "ab\\tc$"}),
    ],
)
def test_quotes_count_at_the_start_of_a_value_alone(text: str, expected: dict[str, str]) -> None:
    """As seen in 30-systemd-environment-d-generator (252)."""
    assert variables(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'--a "{FLAG}=/x y" --b', ["--a", f"{FLAG}=/x y", "--b"]),
        ("--a='b \\' c' \\\"d", ["--a=b ' c", '"d']),
        ("it's --b", ["its --b"]),
        ("'' \\", ["", "\\"]),
        ("a\\x20b", ["ax20b"]),
    ],
)
def test_the_words_of_a_variable(text: str, expected: list[str]) -> None:
    """systemd takes quotes and backslashes away (extract_first_word)."""
    assert words(text) == expected


def test_the_words_of_a_setting() -> None:
    """Those of C have their meaning there; one that has none stays."""
    assert words(r"""a\x20b "c\td" '\\e' \x41\101\s \d""", c_escapes=True) == [
        "a b",
        "c\td",
        "\\e",
        "AA ",
        "\\d",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("# c\nB=2\n" * 8192 + "A=1", "1"),
        ("A=x" + " " * 65536, "x"),
        (" \n" * 32768 + "A=x" + "\n" * 65536, "x"),
        ("A=" + "\\\n" * 32768 + "x", "x"),
        ('A="' + "x" * 65536, "x" * 65536),
    ],
)
def test_a_large_file_is_read_in_linear_time(text: str, value: str) -> None:
    """64 KiB took 5 s."""
    began_s = time.process_time()
    assert words(variables(text)["A"]) == [value]
    assert time.process_time() - began_s < 1


def test_a_comment_that_may_go_on() -> None:
    """Before systemd 254 one that ends in a backslash does: that is not guessed."""
    text = f'# c \\\nA="{FLAG}=/old"\n'
    assert flag_in(text, "A", FLAG) == "/old"
    with pytest.raises(ShimError, match="take the backslash from the end of the comment"):
        set_flag(text, "A", FLAG, SHIM)
    assert set_flag(text, "B", FLAG, SHIM) == f'{text}B="{FLAG}={SHIM}"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f'A="{FLAG}=unix:///old --b=c"\n', f'A="{FLAG}={SHIM} --b=c"\n'),
        (f"A={FLAG} /old --b\n", f"A={FLAG} {SHIM} --b\n"),
        (f"A='--b {FLAG}=/old'", f"A='--b {FLAG}={SHIM}'"),
        ('A="--b=c"\nB=x\n', f'A="--b=c {FLAG}={SHIM}"\nB=x\n'),
        ("A=--b\n", f"A=--b {FLAG}={SHIM}\n"),
        ("A=\n", f'A="{FLAG}={SHIM}"\n'),
        ('A=""\n', f'A="{FLAG}={SHIM}"\n'),
        ("# none\n", f'# none\nA="{FLAG}={SHIM}"\n'),
        ("B=x", f'B=x\nA="{FLAG}={SHIM}"\n'),
        ("", f'A="{FLAG}={SHIM}"\n'),
        (f'#A="{FLAG}=/no"\nA="--b"\n', f'#A="{FLAG}=/no"\nA="--b {FLAG}={SHIM}"\n'),
        (f"A='--b {FLAG}=\"/old\" --c'\n", f"A='--b {FLAG}={SHIM} --c'\n"),
        (f'A="{FLAG}=\\"/old\\" --c"\n', f'A="{FLAG}={SHIM} --c"\n'),
        (f"A='\"{FLAG}=/old\" --c'\n", f"A='\"{FLAG}={SHIM}\" --c'\n"),
        (f"B=Bob's\nA='{FLAG}=/old'\n", f"B=Bob's\nA='{FLAG}={SHIM}'\n"),
        (f'A="--x{FLAG}=/no"\n', f'A="--x{FLAG}=/no {FLAG}={SHIM}"\n'),
    ],
)
def test_a_flag_is_set_in_the_text(before: str, after: str) -> None:
    """In its place or at the end of the variable; twice is once."""
    assert set_flag(before, "A", FLAG, SHIM) == after
    assert set_flag(after, "A", FLAG, SHIM) == after


def test_a_flag_is_taken_out() -> None:
    """The other words stay."""
    assert set_flag(f'A="--b {FLAG}={SHIM} --c"\n', "A", FLAG, None) == 'A="--b --c"\n'


_WORDS = st.lists(st.from_regex(r"--[a-z]{1,6}(=[a-z/.:]{0,8})?", fullmatch=True), max_size=4)


@given(_WORDS, _WORDS, st.sampled_from(['"', "'", ""]), st.booleans())
def test_only_the_flag_changes(flags: list[str], other: list[str], quote: str, there: bool) -> None:
    """Every other word and variable is what it was, and taking the flag out gives them back."""
    mine = [*flags, f"{FLAG}=/old"] if there else flags
    text = f"# head\nB={quote}{' '.join(other)}{quote}\nA={quote}{' '.join(mine)}{quote}\n"
    new = set_flag(text, "A", FLAG, SHIM)
    assert flag_value(variables(new)["A"].split(), FLAG) == SHIM
    assert variables(new)["B"] == variables(text)["B"]
    back = set_flag(new, "A", FLAG, "/old" if there else None)
    assert variables(back)["A"].split() == variables(text)["A"].split()
