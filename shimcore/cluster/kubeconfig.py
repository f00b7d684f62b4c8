"""A kubeconfig's current context with the files that it names: which server, and as whom.

The format is client-go's (k8s.io/client-go/tools/clientcmd/api/v1). Every file is read at once, so
that a rotation cannot leave a certificate beside another one's key, and none is waited for.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from shimcore.cluster.errors import ApiUnreachableError
from shimcore.config.files import Files, UnreadableFileError
from shimcore.tls import client_context
from shimcore.yamlreading import YamlError, first_document

_MISREAD = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """What is run for a token or a certificate (`exec`)."""

    api_version: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Kubeconfig:
    """One server and one login; PEM as bytes, `b""` and `""` for what is not there."""

    server: str
    authority: bytes = b""
    insecure: bool = False
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    command: Command | None = None
    whose: str = "the kubeconfig's"
    """In an error: whose login and certificates these are."""
    rights: str = "nodes need what contrib/kubernetes/rbac.yaml grants"
    """In an error: who has to have which."""
    files: tuple[str, ...] = field(default=(), compare=False)
    """The paths that it was read from."""

    def tls(self) -> ssl.SSLContext:
        """Whom it trusts, and its certificate. Raises OSError (SSLError) and ValueError."""
        context = client_context(self.authority or None)
        if self.insecure and not self.authority:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate:
            show_certificate(context, self.certificate, self.key)
        return context


def show_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show it to the servers of later handshakes. Raises OSError (SSLError) and ValueError."""
    # OpenSSL's binding reads files alone; this one is in memory and has no name.
    with open(os.memfd_create("certificate"), "wb") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        # A key under a passphrase is a fault, not a question on a terminal.
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=lambda: "")


def read_kubeconfig(path: str) -> Kubeconfig:
    """The kubeconfig's current context. Raises ApiUnreachableError, with nothing of its content."""
    reason = "not a kubeconfig"
    path = os.path.expanduser(path)
    files = Files(os.path.dirname(path))
    try:
        return _current(first_document(files.read_bytes(path)), files)
    except (UnreadableFileError, YamlError) as error:
        reason = str(error)
    except _MISREAD as error:
        reason = f"not a kubeconfig ({type(error).__name__})"
    # Raised outside the handlers: their errors may quote the file, which has a token or a key.
    raise ApiUnreachableError(f"kubeconfig {path}: {reason}")


def _current(tree: Any, files: Files) -> Kubeconfig:
    """The context that is the current one. Raises UnreadableFileError and _MISREAD."""
    clusters = _by_name(tree["clusters"], "cluster")
    contexts = _by_name(tree["contexts"], "context")
    users = _by_name(tree.get("users") or [], "user")
    name = tree.get("current-context")
    if not name or name not in contexts:
        raise UnreadableFileError("no current context in it")
    cluster = clusters[contexts[name]["cluster"]]
    if not contexts[name].get("user"):
        raise UnreadableFileError("its current context has no user")
    user = users[contexts[name]["user"]]
    if user.get("auth-provider"):
        raise UnreadableFileError(
            "its user's auth-provider is not known here; exec takes its place"
        )
    authority = _pem(cluster, "certificate-authority", "authority", files)
    insecure = cluster.get("insecure-skip-tls-verify") is True
    certificate = _pem(user, "client-certificate", "client certificate", files)
    return Kubeconfig(
        server=_url(_text(cluster, "server"), tls=bool(authority or insecure or certificate)),
        authority=authority,
        insecure=insecure,
        certificate=certificate,
        key=_pem(user, "client-key", "client key", files),
        token=_text(user, "token"),
        token_file=_token_file(user, files),
        username=_text(user, "username"),
        password=_text(user, "password"),
        command=_command(user.get("exec"), files),
        files=tuple(stamp.path for stamp in files.stamps()),
    )


def _by_name(entries: Any, what: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: dict(entry.get(what) or {}) for entry in entries}


def _url(server: str, *, tls: bool) -> str:
    """The server with a scheme; https where anything of TLS is said (rest.DefaultServerURL)."""
    if not server:
        raise UnreadableFileError("its cluster has no server")
    return server if "://" in server else f"{'https' if tls else 'http'}://{server}"


def _text(tree: dict[str, Any], key: str) -> str:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(key)
    return value or ""


def _pem(tree: dict[str, Any], key: str, what: str, files: Files) -> bytes:
    """What stands in it, which goes before a file of it, as client-go has it."""
    data, path = _text(tree, f"{key}-data"), _text(tree, key)
    try:
        if data:
            return b64decode("".join(data.split()), validate=True)
        return files.read_bytes(files.resolve(path)) if path else b""
    except ValueError:
        reason = "cannot be used: not base64"
    except UnreadableFileError as error:
        reason = str(error)
    raise UnreadableFileError(f"its {what}: {reason}")


def _token_file(user: dict[str, Any], files: Files) -> str:
    """Its path; it is read for every request, since it is replaced before the token expires."""
    path = _text(user, "tokenFile")
    if not path:
        return ""
    try:
        files.read_bytes(files.resolve(path))
    except UnreadableFileError as error:
        raise UnreadableFileError(f"its token: {error}") from None
    return files.resolve(path)


def _command(tree: Any, files: Files) -> Command | None:
    if tree is None:
        return None
    command = _text(tree, "command")
    if os.sep in command:  # else it is looked for in PATH
        command = files.resolve(command)
    arguments = [str(argument) for argument in tree.get("args") or []]
    environment = [(_text(one, "name"), _text(one, "value")) for one in tree.get("env") or []]
    return Command(_text(tree, "apiVersion"), (command, *arguments), tuple(environment))
