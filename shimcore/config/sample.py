"""A configuration with every key in it, commented, that says no more than `address`."""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator, Sequence

from shimcore.config.keys import TOP_KEYS, Key, Kind
from shimcore.errors import ShimError

_HEAD = """\
# Configuration of image-cri-shim: every key there is, with what it is when it is left out.
# To set one, take the # before it away, and those before the keys that it stands below.
# Keep this file readable by root alone (chmod 600): it holds passwords.
"""
_WIDTH = 100


def sample() -> str:
    """The text, made from the table of keys."""
    keys = sorted(TOP_KEYS, key=lambda key: key.name not in {"address", "auth"})
    return "\n".join([_HEAD, *(f"{text}\n" for text in _entries(keys))]).rstrip("\n") + "\n"


def write_sample(path: str) -> None:
    """Write it to a new file, for its owner alone.

    Raises ShimError where there is one, or no room for the whole; else OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ShimError(f"{path} is there already, and stays as it is") from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(sample())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise ShimError(f"{path}: {error.strerror}; it is not written") from error


def _entries(keys: Sequence[Key]) -> Iterator[str]:
    for key in keys:
        if key.kind is Kind.OLD:
            continue
        comment = textwrap.wrap(_meaning(key), _WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield "\n".join([*comment, *_lines(key)])


def _meaning(key: Key) -> str:
    is_example = key.default is None and key.example and key.name != "address"
    example = "; for example:" if is_example else ""
    return f"{key.meaning}{example}"


def _lines(key: Key) -> list[str]:
    if key.name == "address":
        return [f"address: {key.example}"]
    if not key.keys:
        return [f"#{key.name}: {_scalar(key)}".rstrip()]
    below = [line for text in _entries(key.keys) for line in text.splitlines()]
    return [f"#{key.name}:", *_nested(below, in_list=key.kind is Kind.MAPPINGS)]


def _nested(lines: list[str], *, in_list: bool) -> list[str]:
    """The lines of keys as those below a commented key, or of the first entry of its list."""
    nested = []
    dash = in_list
    for line in lines:
        if line.startswith("# "):
            nested.append(f"#    {line}" if in_list else f"#  {line}")
            continue
        text = line.removeprefix("#")
        indent = "  - " if dash else "    " if in_list else "  "
        nested.append(f"#{indent}{text}")
        dash = False
    return nested


def _scalar(key: Key) -> str:
    text = key.default or key.example
    return f'"{text}"' if text.startswith("{") else text
