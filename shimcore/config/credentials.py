"""The login of one registry: from `auth`, a password file, or a docker config.json.

One source each. `auth` is `user:password`. `passwordFile` holds one line: `user:password`,
or, where `auth` gives only the user, the password alone (which may have colons).
`dockerConfig` has logins by host; only those written in it are used, no helper is run.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass

from shimcore.config.files import Files, UnreadableFileError
from shimcore.config.model import Credentials
from shimcore.config.values import Address
from shimcore.errors import ShimError

_API_PATHS = {"", "v1", "v2"}


class CredentialsFaultError(ShimError):
    """What is wrong with a login: the key that it belongs to, and a reason with no secret."""

    def __init__(self, key: str, reason: str, *, missing: str = "") -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason
        self.missing = missing
        """The path where nothing is; it may be a password that was put in the wrong key."""


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials found, where, and a line for the operator if something is odd."""

    credentials: Credentials | None
    source: str = ""
    notice: str = ""


def find_login(
    auth: str | None,
    password_file: str | None,
    docker_config: str | None,
    address: Address,
    files: Files,
) -> Login:
    """The login of the registry at `address`. Raises CredentialsFaultError."""
    auth = auth and auth.rstrip("\r\n")  # YAML's `|` leaves one, as a file does
    if docker_config and (auth or password_file):
        other = "auth" if auth else "passwordFile"
        raise CredentialsFaultError("dockerConfig", f"{other} is given as well; one of them only")
    if docker_config:
        return _from_docker_config(docker_config, address, files)
    if password_file:
        return Login(_from_password_file(password_file, auth, files), "passwordFile")
    if auth and auth.strip() != ":":
        return Login(_user_and_password(auth, "auth"), "auth")
    return Login(None)


def _user_and_password(text: str, key: str) -> Credentials:
    user, colon, password = text.partition(":")
    if not colon:
        raise CredentialsFaultError(key, "user:password expected, and there is no colon in it")
    return Credentials(user, password)


def _from_password_file(path: str, auth: str | None, files: Files) -> Credentials:
    if auth and ":" in auth:
        raise CredentialsFaultError("passwordFile", "auth has a password as well; give it once")
    line, *more = _text(path, "passwordFile", files).rstrip("\r\n").splitlines() or [""]
    if any(more):
        raise CredentialsFaultError("passwordFile", f"{path} has more than one line")
    if not line:
        raise CredentialsFaultError("passwordFile", f"{path} is empty")
    if auth:
        return Credentials(auth, line)
    if ":" not in line:
        reason = f"{path} has no colon: user:password, or give the user with auth: user"
        raise CredentialsFaultError("passwordFile", reason)
    return _user_and_password(line, "passwordFile")


def _text(path: str, key: str, files: Files) -> str:
    try:
        return files.read_text(path)
    except UnreadableFileError as error:
        if os.path.lexists(path):
            raise CredentialsFaultError(key, f"{path}: {error}") from None
        raise CredentialsFaultError(key, str(error), missing=path) from None


def _from_docker_config(path: str, address: Address, files: Files) -> Login:
    host = address.host
    document = _json(path, _text(path, "dockerConfig", files))
    auths = document.get("auths") or {}
    if not isinstance(auths, dict):
        raise CredentialsFaultError("dockerConfig", f"{path}: auths is not an object")
    entries = (_entry_credentials(path, host, each) for each in _entries(auths, address) if each)
    credentials = next((found for found in entries if found), None)
    if credentials is None:
        return Login(None, "", f"{path} {_why_none(document, host)}, so no login is sent")
    return Login(credentials, "dockerConfig")


def _json(path: str, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"not JSON: line {error.lineno}, column {error.colno}"
    except (RecursionError, ValueError):
        reason = "not JSON that can be read here"
    else:
        if isinstance(document, dict):
            return document
        reason = "a JSON object expected"
    # Raised outside the handler: the error of json holds the whole text.
    raise CredentialsFaultError("dockerConfig", f"{path}: {reason}")


def _entries(auths: dict[str, object], address: Address) -> Iterator[object]:
    """The entries of a host: under its own name, then under keys that mean the same server."""
    yield auths.get(address.host)
    for key, entry in auths.items():
        host = _key_host(key)
        if host is not None and address.plain(host) == address.plain_host:
            yield entry


def _key_host(key: str) -> str | None:
    """The host of `host`, `https://host` or `https://host/v1/`; None if the key has a path."""
    _, scheme, rest = key.partition("://")
    host, _, path = (rest if scheme else key).partition("/")
    return host if path.rstrip("/") in _API_PATHS else None


def _entry_credentials(path: str, host: str, entry: object) -> Credentials | None:
    """The login in one entry; None when it has none (a helper keeps it, or another entry)."""
    if not isinstance(entry, dict):
        raise CredentialsFaultError("dockerConfig", f"{path}: the entry of {host} is not an object")
    names = ("auth", "username", "password", "identitytoken")
    given = [entry.get(name) or "" for name in names]
    if not all(isinstance(value, str) for value in given):
        raise CredentialsFaultError("dockerConfig", f"{path}: the entry of {host} has non-text")
    auth, user, password, token = given
    if auth and not (user and password):
        user, password = _decoded(path, host, auth)
    return Credentials(user, password, token) if password or token else None


def _decoded(path: str, host: str, auth: str) -> tuple[str, str]:
    """User and password, of base64 with line ends in it (as Go's) or without padding (kubelet)."""
    joined = auth.translate({ord("\r"): None, ord("\n"): None})
    try:
        text = b64decode(joined + "=" * (-len(joined) % 4), validate=True).decode()
    except (Base64Error, ValueError):
        text = ""
    user, colon, password = text.partition(":")
    if not colon:
        reason = f"{path}: auth of {host} is not the base64 of user:password"
        raise CredentialsFaultError("dockerConfig", reason)
    return user, password.rstrip("\0")  # docker pads with NULs, and takes them off again


def _why_none(document: dict[str, object], host: str) -> str:
    helpers = document.get("credHelpers")
    if document.get("credsStore") or (isinstance(helpers, dict) and host in helpers):
        return f"leaves the login of {host} to a credential helper, which is not run here"
    return f"has no login for {host}"
