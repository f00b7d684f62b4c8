"""`config init`'s file: every key, none of them set but the address."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shimcore.config import load, masked, parse_config
from shimcore.config.keys import TOP_KEYS, Key, Kind
from shimcore.config.sample import sample, write_sample
from shimcore.errors import ConfigError, ShimError

COMMENTED_KEY = re.compile(r"^#((?: {2,}(?:- )?)?[A-Za-z]+:)", re.MULTILINE)


def paths(keys: tuple[Key, ...], parent: str = "") -> set[str]:
    found = set()
    for key in keys:
        if key.kind is not Kind.OLD:
            found |= {parent + key.name} | paths(key.keys, f"{parent}{key.name}.")
    return found


def given(tree: object, parent: str = "") -> set[str]:
    found: set[str] = set()
    if isinstance(tree, list):
        return set().union(*(given(item, parent) for item in tree if isinstance(item, dict)))
    for name, value in tree.items() if isinstance(tree, dict) else ():
        found |= {parent + name} | given(value, f"{parent}{name}.")
    return found


def test_it_says_what_an_address_alone_says() -> None:
    """It loads without a word, and every value is the default."""
    config = parse_config(sample(), "shim.yaml")
    bare = parse_config("address: http://sealos.hub:5000", "shim.yaml")
    assert config.notices == ()
    assert masked(config) == masked(bare)


def test_every_key_is_in_it_at_its_place() -> None:
    """With the marks of comments away, it has each key of the table and is understood."""
    text = COMMENTED_KEY.sub(r"\1", sample())
    text = re.sub(r"^#( +)(?=# )", r"\1", text, flags=re.MULTILINE)
    assert given(yaml.safe_load(text)) == paths(TOP_KEYS)
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "shim.yaml")
    # The files of its examples are not there, and a login is given once.
    assert {fault.path.split(".")[-1] for fault in caught.value.faults} <= {
        "caFile",
        "dockerConfig",
        "passwordFile",
    }


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """A file that is there is left alone."""
    path = tmp_path / "shim.yaml"
    write_sample(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path).notices == ()
    path.write_text("mine")
    with pytest.raises(ShimError, match="is there already"):
        write_sample(str(path))
    assert path.read_text() == "mine"


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """Half a file, which the next try would leave alone, does not stay."""
    path = tmp_path / "shim.yaml"
    script = (
        "import sys; from shimcore.config.sample import write_sample; write_sample(sys.argv[1])"
    )
    limited = f"ulimit -f 4; trap '' XFSZ; exec \"$0\" -c '{script}' \"$1\""
    done = subprocess.run(
        ["/bin/sh", "-c", limited, sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"ShimError: {path}: File too large; it is not written" in done.stderr
    assert not path.exists()
