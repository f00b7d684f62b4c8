"""PyYAML as Go's readers are, and for anybody's text: bounded, and silent about its content."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import yaml

from shimcore.errors import ShimError

VALUES_LIMIT = 50_000
"""Most values in a text, each alias counted once: twice what the lists of a configuration may
hold."""
DEPTH_LIMIT = 32
"""Deepest nesting, many times that of a configuration; each value's time grows with it."""
TOO_DEEP = "not YAML that can be read here: nested too deeply"

_T = TypeVar("_T")
_NULLS = {"", "~", "null", "Null", "NULL"}
_QUOTED = re.compile(r""" ?(?:'([^']*)'|"[^"]*")""")
_TOKEN_NAMES = re.compile(r"<[a-z ]+>|[,:?\]}-]")


class YamlError(ShimError):
    """What keeps a text from being read or changed; nothing of its content is in it."""


class TypedLoader(yaml.SafeLoader):
    """Composes no more than the bounds allow."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = self._count = 0

    def scan_to_next_token(self) -> None:
        """Skips what separates tokens: a tab, too, where no indentation can be (YAML 1.2 §6.2).

        The rule is libyaml's; PyYAML's own scanner takes no tab anywhere.
        """
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            while self.peek() in " \t":
                self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; what is too much is not read to its end."""
        self._depth += 1
        self._count += 1
        if self._depth > DEPTH_LIMIT:
            raise YamlError(TOO_DEEP)
        if self._count > VALUES_LIMIT:
            raise YamlError(f"more than {VALUES_LIMIT} values")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class TextLoader(TypedLoader):
    """Resolves no implicit types: every plain scalar is text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML reads this class attribute


def attempt(read: Callable[[], _T]) -> _T:
    """What `read` makes of a YAML text. Raises YamlError."""
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        reason = _without_content(error)
    except yaml.reader.ReaderError as error:
        reason = f"not YAML: a character that YAML does not allow at offset {error.position}"
    except (yaml.YAMLError, ValueError, OverflowError):
        reason = "not YAML: an escape that names no character, or a date that is none"
    # Raised outside the handler: the error of PyYAML quotes the line, which may hold a password.
    raise YamlError(reason)


def first_document(text: str | bytes) -> Any:
    """The first document, with YAML's types; None where nothing is in it. Raises YamlError."""
    return attempt(lambda: next(yaml.load_all(text, TypedLoader), None))


def is_plain(node: yaml.Node) -> bool:
    """True for a scalar without quotes."""
    return isinstance(node, yaml.ScalarNode) and node.style is None


def is_null(node: yaml.Node) -> bool:
    """True for a plain null, and for nothing."""
    return is_plain(node) and node.value in _NULLS


def _without_content(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where, with none of the file's own text in it."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    parts = [part for part in (error.context, error.problem) if part]
    problem = " ".join(", ".join(parts).split()) or "not understood"

    def keep(quoted: re.Match[str]) -> str:
        if quoted[1] == r"\t":
            return " (a tab)"
        return quoted[0] if _TOKEN_NAMES.fullmatch(quoted[1] or "") else ""

    return f"not YAML: {where}{_QUOTED.sub(keep, problem)}"
