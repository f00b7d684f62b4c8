"""A kubeconfig's login on each request: a token, the token in a file, or a command's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial

import httpx

from shimcore.childprocess import output_of
from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import Command, Kubeconfig
from shimcore.config.files import Files, UnreadableFileError

COMMAND_S = 20.0
"""How long a command may take; those of clouds ask a server of theirs."""
OUTPUT_LIMIT_BYTES = 1024 * 1024

# Visible ASCII, which is more than RFC 6750 §2.1 has.
_TOKEN = re.compile(r"[!-~]+")
_EXEC_GROUP = "client.authentication.k8s.io/"
_EXEC_VERSIONS = {f"{_EXEC_GROUP}{version}" for version in ("v1alpha1", "v1beta1", "v1")}


def login_of(config: Kubeconfig) -> httpx.Auth | None:
    """The way to log in; None for a certificate alone. In client-go's order."""
    if config.token_file:
        return _BearerLogin(partial(_token_in, config.token_file, config.whose))
    if config.token:
        return _BearerLogin(lambda: _sendable(config.token, f"{config.whose} token"))
    if config.command is not None:
        return _CommandLogin(config.command)
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
    """The command runs for the first request, and again where its token is not taken (401)."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._bearer = ""

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._bearer:
            request.headers["Authorization"] = self._bearer
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
        self._bearer = f"Bearer {await token_of(self._command)}"
        request.headers["Authorization"] = self._bearer
        yield request


async def token_of(command: Command) -> str:
    """The token that the command prints. Raises ApiUnreachableError, with nothing of its output."""
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
    return _token_of(output, name)


def _token_of(output: bytes, name: str) -> str:
    try:
        token = json.loads(output)["status"]["token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        token = ""
    if not token or not isinstance(token, str):
        raise ApiUnreachableError(f"the kubeconfig's {name} prints no token")
    return _sendable(token, f"the kubeconfig's {name} prints a token that")
