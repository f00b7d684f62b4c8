"""A kubeconfig's login on each request: a token, the token in a file, or what a command prints."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from functools import partial

import httpx

from shimcore.childprocess import output_of
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import Command, Kubeconfig, show_certificate
from shimcore.config.files import Files, UnreadableFileError
from shimcore.jsontext import object_in, text_at

COMMAND_S = 20.0
"""How long a command may take; those of clouds ask a server of theirs."""
OUTPUT_LIMIT_BYTES = 1024 * 1024

# Visible ASCII, which is more than RFC 6750 §2.1 has.
_TOKEN = re.compile(r"[!-~]+")
_EXEC_GROUP = "client.authentication.k8s.io/"
_EXEC_VERSIONS = {f"{_EXEC_GROUP}{version}" for version in ("v1alpha1", "v1beta1", "v1")}


def login_of(config: Kubeconfig, context: ssl.SSLContext) -> httpx.Auth | None:
    """The way to log in; None for a certificate alone. In client-go's order.

    `context` is given the certificate that a command prints.
    """
    if config.token_file:
        return _BearerLogin(partial(_token_in, config.token_file, config.whose))
    if config.token:
        return _BearerLogin(lambda: _sendable(config.token, f"{config.whose} token"))
    if config.command is not None:
        return _CommandLogin(config.command, context)
    return httpx.BasicAuth(config.username, config.password) if config.username else None


class _BearerLogin(httpx.Auth):
    """The token is read for every request."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        yield request


def _token_in(path: str, whose: str) -> str:
    try:
        return _sendable(Files("").read_text(path), f"{whose} token")
    except UnreadableFileError as error:
        raise ApiUnreachableError(f"{whose} token: {error}") from None


def _sendable(token: str, whose: str) -> str:
    """The token without the line ends around it. Raises ApiUnreachableError, with nothing of it.

    What a header cannot carry the HTTP client would show in its error.
    """
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        raise ApiUnreachableError(
            f"{whose} is empty, or has a space, a line end or another character that no token has"
        )
    return token


class _CommandLogin(httpx.Auth):
    """The command runs for the first request, and again where its login is not taken (401).

    Its certificate is there before the connection is: a later one is for the next connection.
    """

    def __init__(self, command: Command, context: ssl.SSLContext) -> None:
        self._command = command
        self._context = context
        self._printed: Credential | None = None

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._printed is not None:
            self._printed.put_on(request)
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
        printed = await credential_of(self._command)
        if printed.certificate:
            self._show(printed)
        self._printed = printed
        printed.put_on(request)
        yield request

    def _show(self, printed: Credential) -> None:
        try:
            show_certificate(self._context, printed.certificate, printed.key)
        except (OSError, ValueError):
            pass
        else:
            return
        name = os.path.basename(self._command.words[0])
        raise ApiUnreachableError(
            f"the kubeconfig's {name} prints a certificate or key that cannot be used"
        )


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What a command prints: a token, a certificate with its key (PEM), or both."""

    token: str = ""
    certificate: bytes = b""
    key: bytes = b""

    def put_on(self, request: httpx.Request) -> None:
        """Have the request carry the token."""
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"


async def credential_of(command: Command) -> Credential:
    """What the command prints. Raises ApiUnreachableError, with nothing of its output."""
    name = os.path.basename(command.words[0])
    if command.api_version not in _EXEC_VERSIONS:
        raise ApiUnreachableError(f"the kubeconfig's {name}: an API version that is not known here")
    asked = {"kind": "ExecCredential", "apiVersion": command.api_version}
    info = json.dumps({**asked, "spec": {"interactive": False}})
    environment = {**os.environ, **dict(command.environment), "KUBERNETES_EXEC_INFO": info}
    try:
        output, status = await output_of(
            command.words, environment, limit_bytes=OUTPUT_LIMIT_BYTES, timeout_s=COMMAND_S
        )
    except TimeoutError:
        raise ApiUnreachableError(
            f"the kubeconfig's {name} has not ended in {COMMAND_S:.0f} s"
        ) from None
    except OSError as error:
        raise ApiUnreachableError(f"the kubeconfig's {name}: {error.strerror}") from None
    if status is None:
        raise ApiUnreachableError(f"the kubeconfig's {name} prints too much")
    if status:
        raise ApiUnreachableError(f"the kubeconfig's {name} ended with status {status}")
    return _credential_in(output, name)


def _credential_in(output: bytes, name: str) -> Credential:
    """`status` of an ExecCredential (client.authentication.k8s.io/v1)."""
    status = (object_in(output) or {}).get("status")
    token = text_at(status, "token")
    certificate = text_at(status, "clientCertificateData").encode()
    key = text_at(status, "clientKeyData").encode()
    if not (token or certificate) or bool(certificate) != bool(key):
        raise ApiUnreachableError(
            f"the kubeconfig's {name} prints no token, and no certificate with its key"
        )
    if token:
        token = _sendable(token, f"the kubeconfig's {name} prints a token that")
    return Credential(token, certificate, key)
