"""The tables of keys in docs/configuration.md, made from the table of keys.

`python docs/tables.py FILE` writes them between the file's markers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from shimcore.config.keys import REGISTRY_KEYS, TOP_KEYS, Key, Kind
from shimcore.errors import ShimError

_HEAD = "| key | default | meaning |\n|---|---|---|\n"
_MARKED = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """The name of each table's marker → its text."""
    options = {"hub", "registries"}
    nested = [key for key in TOP_KEYS if key.keys and key.name not in options]
    top = [key for key in TOP_KEYS if key.kind is not Kind.OLD]
    return {
        "top": _table(top),
        "registries": _table(REGISTRY_KEYS),
        **{key.name: _table(key.keys) for key in nested},
        "old": _table([key for key in TOP_KEYS if key.kind is Kind.OLD]),
    }


def with_tables(text: str) -> str:
    """A document with its tables brought up to date. Raises ShimError where one is missing."""
    made = tables()
    missing = set(made) - {found[2] for found in _MARKED.finditer(text)}
    if missing:
        raise ShimError(f"no marker for the tables {', '.join(sorted(missing))}; add them")
    return _MARKED.sub(lambda found: f"{found[1]}{made[found[2]]}{found[3]}", text)


def _table(keys: Sequence[Key]) -> str:
    return _HEAD + "".join(f"| {' | '.join(_row(key))} |\n" for key in keys)


def _row(key: Key) -> Iterator[str]:
    yield f"`{key.name}`"
    yield f"`{key.default}`" if key.default else key.absent
    yield key.meaning.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")


if __name__ == "__main__":
    _path = Path(sys.argv[1])
    _path.write_text(with_tables(_path.read_text(encoding="utf-8")), encoding="utf-8")
