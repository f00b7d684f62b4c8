"""Flags in environment files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimcore.systemd.envfile import flag_value, set_flag, variables

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
def test_only_the_flag_changes(words: list[str], other: list[str], quote: str, there: bool) -> None:
    """Every other word and variable is what it was, and taking the flag out gives them back."""
    mine = [*words, f"{FLAG}=/old"] if there else words
    text = f"# head\nB={quote}{' '.join(other)}{quote}\nA={quote}{' '.join(mine)}{quote}\n"
    new = set_flag(text, "A", FLAG, SHIM)
    assert flag_value(variables(new)["A"].split(), FLAG) == SHIM
    assert variables(new)["B"] == variables(text)["B"]
    back = set_flag(new, "A", FLAG, "/old" if there else None)
    assert variables(back)["A"].split() == variables(text)["A"].split()
