"""YAML of others, as Go's readers take it."""

from __future__ import annotations

import json

import pytest

from shimcore.yamlreading import YamlError, first_document

TREE = {"a": {"b": [1, None, "x"]}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TREE, indent="\t"),
        'a:\t# why\n  b: [1,\tnull, "x"]\n',
        "a:\n  b: [1, ~, x]\n---\n",
        "a:\n  b: [1, null, x]\n---\na: [\n",
    ],
)
def test_what_go_reads_is_read(text: str) -> None:
    """Tabs between tokens, and the first document alone."""
    assert first_document(text) == first_document(text.encode()) == TREE


@pytest.mark.parametrize(
    "text", ["a: [", "a:\n\tb: 1\n", "a: 2026-99-99\n", 'a: "\\UFFFFFFFF"', "[" * 5000, "\0"]
)
def test_what_cannot_be_read_is_one_error(text: str) -> None:
    """Whatever PyYAML would raise."""
    with pytest.raises(YamlError, match="YAML"):
        first_document(text)


def test_an_error_leaves_nothing_of_the_text_behind() -> None:
    """Neither in its words, nor in an error behind it: the line may hold a password."""
    with pytest.raises(YamlError) as raised:
        first_document("token: s3cret\nusers: [s3cret: s3cret: s3cret\n")
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None
