"""Why a registry could not be asked or said no, in words that tell how to mend it."""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import Any

from shimcore.errors import RegistryError

JSON_LIMIT_VALUES = 2000  # an error or a token has a few; a detail may list a hundred rights
_JSON_MARKS = (b",", b"[", b"{")
_ERROR_CODE = re.compile(r"[A-Z][A-Z_]{1,63}")

_PROXY_LOGIN = "407"
# No thread, descriptor, port or memory left on this side: says nothing of the other.
_SHORTAGES = {
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,
}

# OpenSSL's verification results (x509_vfy.h) that have their own remedy.
_EARLY, _EXPIRED = 9, 10  # any certificate of the chain
_OTHER_NAMES = (62, 64)  # of the host, of the IP address
_DATES = {_EARLY: "not yet valid", _EXPIRED: "expired"}
_UNTRUSTED = {18, 19, 20, 21}


class Fault(Enum):
    """How far a question came; the circuit breaker weighs the first two and lets OWN be."""

    CONNECT = "connect"  # nothing that can be talked to: DNS, refused, TLS, no route
    SILENT = "silent"  # connected, but no answer in time, or the connection broke
    ANSWERED = "answered"  # it answered, but not the question: 429, 5xx, nonsense
    OWN = "own"  # it could not be asked: a limit or a shortage of this process


class UnreachableError(RegistryError):
    """The registry, or its token endpoint, gave no usable answer."""

    def __init__(self, registry: str, reason: str, fault: Fault) -> None:
        super().__init__(registry, reason)
        self.fault = fault


class UntrustedError(UnreachableError):
    """The TLS handshake failed; the certificate may still be worth showing.

    `wrong_name`: it is for other names than the one that was asked for. `dates`: "expired" or
    "not yet valid", itself or an authority above it; else "".
    """

    def __init__(
        self, registry: str, reason: str, *, wrong_name: bool = False, dates: str = ""
    ) -> None:
        super().__init__(registry, reason, Fault.CONNECT)
        self.wrong_name = wrong_name
        self.dates = dates


class UnauthorizedError(RegistryError):
    """The registry wants a login that is not there, or refused the one it got.

    `certain`: it is the login that was refused, not what was asked for with it.
    """

    def __init__(self, registry: str, reason: str, *, certain: bool = False) -> None:
        super().__init__(registry, reason)
        self.certain = certain


def from_exception(
    registry: str, origin: str, raised: BaseException, *, connecting: bool
) -> UnreachableError:
    """Turn what the HTTP library raised into one line.

    `origin` is what was being talked to (`https://host`, or `the proxy host:port`);
    `connecting`: there was no connection yet.
    """
    chain = list(_causes(raised))
    for cause in chain:
        if isinstance(cause, ssl.SSLError):
            code = getattr(cause, "verify_code", 0)
            return UntrustedError(
                registry,
                _tls_reason(origin, cause),
                wrong_name=code in _OTHER_NAMES,
                dates=_DATES.get(code, ""),
            )
        if reason := _connect_reason(origin, cause):
            return UnreachableError(registry, reason, Fault.CONNECT)
    broken = [cause for cause in chain if isinstance(cause, OSError)]
    text = one_line(str(broken[-1] if broken else raised)) or "closed by the other side"
    if connecting:
        short = bool(broken) and broken[-1].errno in _SHORTAGES
        fault = Fault.OWN if short else Fault.CONNECT
        return UnreachableError(registry, f"no connection to {origin}: {text}", fault)
    if "illegal status line" in text:
        return UnreachableError(registry, _not_http(origin), Fault.ANSWERED)
    return UnreachableError(registry, f"{origin} broke off: {text}", Fault.SILENT)


def from_proxy(registry: str, proxy: str, raised: Exception) -> UnreachableError:
    """Tell of a proxy that made no way to the registry; of its own words only the status."""
    status = str(raised).partition(" ")[0]
    reason = f"the proxy {proxy} did not let the connection through"
    if status.isdecimal():
        reason += f" ({status})"
    if status == _PROXY_LOGIN:
        reason += ": it wants a login, http://user:password@host:port"
    return UnreachableError(registry, reason, Fault.CONNECT)


def _not_http(origin: str) -> str:
    reason = f"{origin} answers with something that is not HTTP"
    if origin.startswith("http://"):
        reason += "; if it speaks TLS, write https:// in its address"
    return reason


def _causes(raised: BaseException) -> Iterator[BaseException]:
    """Yield the exception and everything that it was raised from, groups included."""
    pending: list[BaseException | None] = [raised]
    seen: set[int] = set()
    while pending:
        cause = pending.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            pending.extend(cause.exceptions)
        pending.append(cause.__cause__ or cause.__context__)


def _connect_reason(origin: str, cause: BaseException) -> str:
    if isinstance(cause, socket.gaierror):
        return (
            f"the name in {origin} cannot be resolved ({cause.strerror}); "
            "add it to DNS or to /etc/hosts"
        )
    if isinstance(cause, ConnectionRefusedError):
        what = "the registry" if "://" in origin else "it"
        return f"{origin} refused the connection; is {what} running on that port?"
    if isinstance(cause, UnicodeError):
        return f"{origin} is not a host name"
    return ""


def _tls_reason(origin: str, cause: ssl.SSLError) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {origin} {_verification_reason(cause)}"
    if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return (
            f"{origin} does not speak TLS; if it is a plain registry, write http:// in its address"
        )
    return f"the TLS handshake with {origin} failed: {one_line(cause.reason or str(cause))}"


def _verification_reason(cause: ssl.SSLCertVerificationError) -> str:
    message = one_line(cause.verify_message)
    if cause.verify_code == _EXPIRED:
        return "has expired, or that of an authority above it; renew it"
    if cause.verify_code == _EARLY:
        return "is not yet valid, or that of an authority above it; is this node's clock right?"
    if cause.verify_code in _OTHER_NAMES:
        return f"is for another name ({message.rstrip('.')})"
    if cause.verify_code in _UNTRUSTED:
        return f"is not trusted ({message}); name its CA in caFile"
    return f"is not valid: {message}"


def read_json(body: bytes) -> Any:
    """Return what a small JSON document says. Raises ValueError.

    Reading many values takes long (a megabyte of `[],` 50 ms of the event loop), whatever is made
    of them.
    """
    if sum(map(body.count, _JSON_MARKS)) > JSON_LIMIT_VALUES:
        raise ValueError("a JSON document of too many values")
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("a JSON document that is nested too deeply") from error


def error_codes(body: bytes) -> str:
    """Return the error codes of a registry's JSON answer, `MANIFEST_UNKNOWN, …`, or "".

    Codes only: messages are free text of the other side (distribution-spec, Error Codes).
    """
    try:
        errors = read_json(body)["errors"]
        codes = [error["code"] for error in errors[:3]]
    except (ValueError, TypeError, KeyError):
        return ""
    return ", ".join(
        code for code in codes if isinstance(code, str) and _ERROR_CODE.fullmatch(code)
    )


def one_line(text: str, limit_characters: int = 200) -> str:
    """Make text of unknown origin fit for one line of a log or a table."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:limit_characters]
