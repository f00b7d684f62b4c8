"""Text for logs and refusals: bounded, printable, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from shimcore import lines

NAME_LIMIT = 320
"""Characters of an image name in a log line; a legal name with its digest is under 500."""

REASON_LIMIT = 200
"""Bytes of one registry's reason."""

REASONS_LIMIT = 2048
"""Bytes of all reasons of a refusal together, and of the runtime's words before them:
percent-encoded three to one they still fit a client that takes header lists of 16 KiB."""

WHY_LIMIT = 3000
"""Characters of a log line's reasons."""

LINE_LIMIT = 8192
"""Characters of a text that are looked through for what is not to be shown."""

SECRET_LENGTH = 4
"""Shorter secrets are not looked for in text: they occur in any sentence."""

# From the first `://` of a word to its end, so that nothing is gone through twice.
_URL = re.compile(r"://[^\s\"']*")
_URL_LOGIN = re.compile(r"://[^/]*@")
_TO_BE_QUOTED = re.compile('[ "=]')
_HEADER = re.compile(r"\b(?P<kind>Basic|Bearer) [A-Za-z0-9._~+/=-]{8,}")


def printable(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters; what cannot be printed is escaped."""
    return lines.printable(text if len(text) <= limit else text[: limit - 1] + "…")


def shortened(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes; its middle goes first, since the cause is at the end."""
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return text
    head = max(limit // 3, 0)
    tail = max(limit - head - 3, 0)
    kept = data[len(data) - tail :].decode(errors="ignore")
    return f"{data[:head].decode(errors='ignore')}…{kept}"


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without URL passwords and queries, authorization values and the given secrets."""
    for secret in secrets:
        if len(secret) >= SECRET_LENGTH:
            quoted = json.dumps(secret, ensure_ascii=False)[1:-1]  # as Go's %q has it
            text = text.replace(secret, "***").replace(quoted, "***")
    return _HEADER.sub(r"\g<kind> ***", _URL.sub(_plain_url, text))


def _plain_url(found: re.Match[str]) -> str:
    url, query, _ = _URL_LOGIN.sub("://", found[0]).partition("?")
    return f"{url}?***" if query else url


def reason(text: str, secrets: Iterable[str] = ()) -> str:
    """One registry's reason as it may be shown: redacted, one line, bounded."""
    shown = printable(redacted(" ".join(text.split()), secrets), LINE_LIMIT)
    return shortened(shown, REASON_LIMIT)


def refusal(image: str, attempts: Sequence[object]) -> str:
    """A refusal that names every registry with its reason."""
    head = (
        f"image-cri-shim: no registry gives {printable(image, NAME_LIMIT)}, and its own is denied"
    )
    return f"{head}: {listed(attempts)}" if attempts else f"{head}: no registry serves it"


def failure(words: str, attempts: Sequence[object]) -> str:
    """The runtime's own words on a failed pull first, and every registry's reason after them."""
    text = shortened(words, REASONS_LIMIT)
    return f"{text}; image-cri-shim: {listed(attempts)}" if attempts else text


def listed(attempts: Sequence[object]) -> str:
    """What the registries said, each in its fair share of REASONS_LIMIT."""
    share = max(REASONS_LIMIT // max(len(attempts), 1) - 2, 24)
    text = "; ".join(shortened(str(attempt), share) for attempt in attempts)
    return shortened(text, REASONS_LIMIT)


def log_line(**fields: str) -> str:
    """`key=value` of each field, values with spaces quoted and `-` for none."""
    return " ".join(f"{key}={_value(text)}" for key, text in fields.items())


def _value(text: str) -> str:
    if not text:
        return "-"
    if _TO_BE_QUOTED.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
