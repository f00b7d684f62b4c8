"""`WWW-Authenticate`: the challenges of a registry, parsed and printed (RFC 9110 §11.6.1).

The libraries' readers (`urllib.request.parse_http_list`, httpx's for Digest) know one challenge
in a field, and bound nothing of what a stranger sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from shimcore.errors import ShimError

# RFC 9110 §5.6.2. The quantifiers are possessive by construction: no alternative overlaps.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# More than the grammar's token: some registries do not quote the realm, which is a URL.
_BARE_VALUE = re.compile(r'[^\s",\\]+')
_SPACE = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")

LIMIT_CHARACTERS = 8 * 1024  # five times the longest header seen from public registries
# Challenges and their parameters, in all fields of an answer. Two of each are usual: what a
# challenge costs is time of the event loop.
LIMIT_ELEMENTS = 64


class ChallengeSyntaxError(ShimError):
    """A `WWW-Authenticate` value that the grammar does not allow, at offset `position`."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"WWW-Authenticate: {reason} (at character {position + 1})")
        self.position = position
        self.reason = reason


class _SlipError(ChallengeSyntaxError):
    """One that is not a matter of bounds."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme in lower case with parameters or a token68.

    Parameter names are in lower case, in the order of the header.
    """

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()
    token68: str = ""

    def get(self, name: str) -> str:
        """Return the first parameter of that name, or the empty string."""
        return next((value for key, value in self.parameters if key == name), "")

    def __str__(self) -> str:
        """Print as in a header; every value quoted."""
        if self.token68:
            return f"{self.scheme} {self.token68}"
        printed = ", ".join(f"{key}={_quote(value)}" for key, value in self.parameters)
        return f"{self.scheme} {printed}".rstrip()


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all `WWW-Authenticate` fields of a response, in order.

    A slip ends its field; what was read before it counts, as for containerd and docker.
    Raises ChallengeSyntaxError where that leaves none, and beyond the limits.
    """
    budget = iter(range(LIMIT_ELEMENTS))
    found: list[Challenge] = []
    slip = None
    for header in headers:
        scanner = _Scanner(header, budget)
        found += scanner.challenges()
        slip = slip or scanner.slip
    if slip is not None and not found:
        raise slip
    return tuple(found)


class _Scanner:
    """Reads one field value from left to right."""

    def __init__(self, text: str, budget: Iterator[int]) -> None:
        self._text = text
        self._at = 0
        self._budget = budget  # of elements, shared by the fields of an answer
        self.slip: _SlipError | None = None
        """What ended the field before its end."""
        if len(text) > LIMIT_CHARACTERS:
            raise ChallengeSyntaxError(0, f"longer than {LIMIT_CHARACTERS} characters")

    def challenges(self) -> Iterable[Challenge]:
        """`#challenge`: a list, empty elements allowed (RFC 9110 §5.6.1.2)."""
        self._skip(_SEPARATORS)
        while self._at < len(self._text) and self.slip is None:
            try:
                yield self._challenge()
            except _SlipError as error:
                self.slip = error
            self._skip(_SEPARATORS)

    def _challenge(self) -> Challenge:
        """`challenge = auth-scheme [ 1*SP ( token68 / #auth-param ) ]`."""
        self._count()
        scheme = self._take(_TOKEN, "an authentication scheme").lower()
        before = self._at
        self._skip(_SPACE)
        if self._at == before:
            self._end_of_element()
            return Challenge(scheme)
        if token68 := self._accept(_TOKEN68):
            return Challenge(scheme, token68=token68)
        challenge = Challenge(scheme, parameters=tuple(self._parameters()))
        if self.slip is not None and scheme != "basic" and not challenge.get("realm"):
            raise self.slip  # nobody could answer it
        return challenge

    def _parameters(self) -> Iterable[tuple[str, str]]:
        """`#auth-param`, up to the token that is not followed by `=`: the next scheme."""
        while self._at < len(self._text):
            self._skip(_SEPARATORS)
            start = self._at
            name = self._accept(_TOKEN)
            self._skip(_SPACE)
            if not name or self._peek() != "=":
                self._at = start
                return
            self._count()
            self._at += 1
            self._skip(_SPACE)
            is_quoted = self._peek() == '"'
            value = ""
            try:
                value = self._value()
                self._skip(_SPACE)
                self._end_of_element()
            except _SlipError as error:
                self.slip = error
            if self.slip is None or (is_quoted and value):  # without quotes it may be cut short
                yield name.lower(), value
            if self.slip is not None:
                return

    def _value(self) -> str:
        """`token / quoted-string`."""
        if self._peek() != '"':
            return self._take(_BARE_VALUE, "a value")
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is None:
            self._fail("a quoted string that does not end")
        self._at = quoted.end()
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)

    def _count(self) -> None:
        if next(self._budget, None) is None:
            reason = f"more than {LIMIT_ELEMENTS} challenges and parameters"
            raise ChallengeSyntaxError(self._at, reason)

    def _end_of_element(self) -> None:
        if self._peek() not in ("", ","):
            self._fail("expected a comma")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._accept(pattern)

    def _accept(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        return self._accept(pattern) or self._fail(f"expected {what}")

    def _fail(self, reason: str) -> NoReturn:
        raise _SlipError(self._at, reason)
