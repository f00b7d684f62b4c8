"""Text for logs and refusals: bounded, printable, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from shimcore.images.decision import Forward, Verdict

NAME_LIMIT = 320
"""Characters of an image name in a log line; a legal name with its digest is under 500."""

REASON_LIMIT = 240
"""Characters of one registry's reason."""

REFUSAL_LIMIT = 3000
"""Characters of a refusal: percent-encoded three to one it still fits a client that takes
header lists of 16 KiB."""

SECRET_LENGTH = 4
"""Shorter secrets are not looked for in text: they occur in any sentence."""

_URL_SECRETS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s\"'@]*@)?")
_URL_QUERY = re.compile(r"(?P<base>[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'?]*)\?[^\s\"']*")
_LINE = "call=%s image=%s decision=%s name=%s registry=%s why=%s ms=%s"
_TO_BE_QUOTED = re.compile('[ "=]')
_HEADER = re.compile(r"\b(?P<kind>Basic|Bearer) [A-Za-z0-9._~+/=-]{8,}")


def printable(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters; what cannot be printed is escaped."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without URL passwords and queries, authorization values and the given secrets."""
    for secret in secrets:
        if len(secret) >= SECRET_LENGTH:
            text = text.replace(secret, "***")
    text = _URL_SECRETS.sub(r"\g<scheme>", text)
    text = _URL_QUERY.sub(r"\g<base>?***", text)
    return _HEADER.sub(r"\g<kind> ***", text)


def reason(text: str, secrets: Iterable[str] = ()) -> str:
    """One registry's reason as it may be shown: redacted, one line, bounded."""
    return printable(redacted(" ".join(text.split()), secrets), REASON_LIMIT)


def refusal(image: str, reasons: Mapping[str, str]) -> str:
    """A refusal that names every registry (host → reason), each reason cut to a fair share."""
    head = f"no registry gives {printable(image, NAME_LIMIT)}, and its own is denied"
    if not reasons:
        return f"{head}: no registry is configured for it"
    share = max(24, (REFUSAL_LIMIT - len(head)) // len(reasons) - 48)
    parts = [f"{host}: {printable(why, share)}" for host, why in reasons.items()]
    return printable(f"{head}: " + "; ".join(parts), REFUSAL_LIMIT)


def decision_line(
    call: str, image: str, verdict: Verdict, elapsed_s: float, decision: str | None = None
) -> str:
    """The one log line of a decision: key=value, values with spaces quoted.

    `decision` stands in for the verdict's own where there was none.
    """
    values = (
        call,
        printable(image, NAME_LIMIT),
        decision or _decided(verdict),
        printable(verdict.name, NAME_LIMIT),
        verdict.registry,
        printable(verdict.why, REFUSAL_LIMIT),
        f"{elapsed_s * 1000:.1f}",
    )
    return _LINE % tuple(map(_value, values))


def _decided(verdict: Verdict) -> str:
    if isinstance(verdict.decision, Forward):
        return "as-is" if verdict.decision.message is None else "rewritten"
    return f"refused({int(verdict.decision.code)})"


def _value(text: str) -> str:
    if not text:
        return "-"
    if _TO_BE_QUOTED.search(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
