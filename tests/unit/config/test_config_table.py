"""docs/configuration.md: its tables are those of keys.py; the documents' configurations load."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from pathlib import Path

import pytest

from shimcore.config import parse_config
from shimcore.config.keys import TOP_KEYS, Key
from shimcore.errors import ShimError
from tests.support.tools import loaded

TABLES = loaded("docs/tables.py")

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
DOCUMENTS = (DOCUMENT.parents[1] / "README.md", *sorted(DOCUMENT.parent.glob("*.md")))
EXAMPLES = [
    textwrap.dedent(found)
    for document in DOCUMENTS
    for found in re.findall(
        r"^ *```yaml\n( *address:.*?)^ *```$", document.read_text(), re.M | re.S
    )
]


def names(keys: tuple[Key, ...]) -> set[str]:
    return {name for key in keys for name in (key.name, *names(key.keys))}


def test_the_committed_tables_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    text = DOCUMENT.read_text()
    assert TABLES.with_tables(text) == text


def test_every_key_has_its_row() -> None:
    """Nothing that the reader knows is left out."""
    text = "".join(TABLES.tables().values())
    assert [name for name in sorted(names(TOP_KEYS)) if f"| `{name}` |" not in text] == []


def test_a_document_without_a_marker_is_an_error() -> None:
    """A table that has no place is not dropped in silence."""
    with pytest.raises(ShimError, match="top"):
        TABLES.with_tables("# Configuration\n")


@pytest.mark.parametrize("text", EXAMPLES)
def test_its_examples_load(text: str, tmp_path: Path, ca_pem: bytes) -> None:
    """Each with an address is read without a notice, where the files that it names are there."""
    login = base64.b64encode(b"robot:secret").decode()
    docker = tmp_path / "config.json"
    docker.write_text(json.dumps({"auths": {"hub.example.com": {"auth": login}}}))
    docker.chmod(0o600)
    text = text.replace("/etc/image-cri-shim/config.json", str(docker))
    authority = tmp_path / "ca.pem"
    authority.write_bytes(ca_pem)
    text = text.replace("/etc/image-cri-shim/ca.pem", str(authority))
    assert parse_config(text, "example.yaml").notices == ()
