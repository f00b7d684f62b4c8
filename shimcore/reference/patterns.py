"""Lists of glob patterns, made ready once and matched in one go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase, translate
from functools import cached_property
from typing import Self

# Patterns tried as one regular expression; which one of them it was is looked for afterwards.
_TOGETHER = 64
_MAGIC = re.compile(r"[*?[]")
# What stands in names of images, and in globs of them.
_UNKNOWN = re.compile(r"[^A-Za-z0-9._/:@*?\[\]!-]")


class Patterns(tuple[str, ...]):
    """Globs (`*`, `?`, `[…]`, case-sensitive) in their order, each for the whole of a text.

    A list of 1,000 costs a text some ten microseconds, once it has been made `ready`.
    """

    def ready(self) -> Self:
        """These, with what takes time done: some 50 ms for 1,000."""
        self.first(("",))
        return self

    def first(self, forms: Sequence[str], *plain_forms: str) -> str | None:
        """The first pattern that matches one of the forms, or is one of all; None without one."""
        plain = min(self._plain.get(form, len(self)) for form in (*forms, *plain_forms))
        for start, together in self._globs:
            if start < plain and any(together.match(form) for form in forms):
                for index in range(start, min(start + _TOGETHER, plain)):
                    if any(fnmatchcase(form, self[index]) for form in forms):
                        return self[index]
        return self[plain] if plain < len(self) else None

    @cached_property
    def _plain(self) -> dict[str, int]:
        """Each pattern, as the text that it is, with its first place."""
        return {pattern: index for index, pattern in reversed(list(enumerate(self)))}

    @cached_property
    def _globs(self) -> list[tuple[int, re.Pattern[str]]]:
        """By the first place of each lot: what matches when one of its globs does."""
        lots = []
        for start in range(0, len(self), _TOGETHER):
            globs = [p for p in self[start : start + _TOGETHER] if _MAGIC.search(p)]
            if globs:
                lots.append((start, re.compile("|".join(map(translate, globs)))))
        return lots


def pattern_doubt(pattern: str) -> str:
    """Why no image can match a pattern; "" when one may."""
    if "://" in pattern:
        return f"no image matches {pattern!r}: a name has no scheme"
    unknown = _UNKNOWN.search(pattern)
    if unknown:
        return (
            f"no image matches {pattern!r}: no name has {unknown[0]!r}, and patterns are globs"
            " (*, ?, [...]), not regular expressions"
        )
    if pattern.startswith("/") or pattern.endswith("/"):
        return (
            f"no image matches {pattern!r}: no name begins or ends with a slash;"
            f" try {_mended(pattern)}"
        )
    return ""


def _mended(pattern: str) -> str:
    inner = pattern.strip("/")
    return f"{inner}/*" if pattern.endswith("/") else inner
